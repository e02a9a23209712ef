//! What every server starts with: configuration, telemetry, HTTP edge, health, ordered shutdown.
