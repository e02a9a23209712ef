//! The table of keys.

use tradewind_sql::Migration;

/// The migrations as a set of their own, for `Database::open(…, "idempotency", MIGRATIONS)`.
pub const MIGRATIONS: &[Migration] = &migrations(1);

/// The migrations for a service that keeps its keys among its own tables, as it must to claim and
/// act in one transaction: they take the numbers from `first` on in its own set.
#[must_use]
pub const fn migrations(first: u32) -> [Migration; 2] {
    // The answer is an INTEGER, a TEXT and a BLOB or nothing at all: no half-stored one.
    let index = "CREATE INDEX tradewind_idempotency_expiry ON tradewind_idempotency (expires_ms)";
    [
        Migration {
            version: first,
            name: "create idempotency",
            sqlite: "CREATE TABLE tradewind_idempotency (
                subject TEXT NOT NULL,
                operation TEXT NOT NULL,
                idempotency_key TEXT NOT NULL CHECK (length(idempotency_key) BETWEEN 1 AND 255),
                fingerprint TEXT NOT NULL,
                state TEXT NOT NULL CHECK (state IN ('claimed', 'done', 'released')),
                fence INTEGER NOT NULL CHECK (fence > 0),
                lease_until_ms INTEGER NOT NULL,
                fixed TEXT NOT NULL,
                status INTEGER,
                headers TEXT,
                body BLOB,
                created_ms INTEGER NOT NULL,
                expires_ms INTEGER NOT NULL,
                PRIMARY KEY (subject, operation, idempotency_key),
                CHECK ((state = 'done') = (status IS NOT NULL)),
                CHECK ((status IS NULL) = (body IS NULL) AND (status IS NULL) = (headers IS NULL))
            ) STRICT",
            mysql: "CREATE TABLE tradewind_idempotency (
                subject VARCHAR(120) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
                operation VARCHAR(120) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
                idempotency_key VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
                fingerprint VARCHAR(80) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
                state VARCHAR(10) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
                fence BIGINT NOT NULL,
                lease_until_ms BIGINT NOT NULL,
                fixed TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
                status INT,
                headers TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
                body MEDIUMBLOB,
                created_ms BIGINT NOT NULL,
                expires_ms BIGINT NOT NULL,
                PRIMARY KEY (subject, operation, idempotency_key),
                CONSTRAINT tradewind_idempotency_state
                    CHECK (state IN ('claimed', 'done', 'released')),
                CONSTRAINT tradewind_idempotency_fence CHECK (fence > 0),
                CONSTRAINT tradewind_idempotency_answer
                    CHECK ((state = 'done') = (status IS NOT NULL)
                        AND (status IS NULL) = (body IS NULL)
                        AND (status IS NULL) = (headers IS NULL))
            ) ENGINE = InnoDB",
        },
        Migration {
            version: first + 1,
            name: "index idempotency by expiry",
            sqlite: index,
            mysql: index,
        },
    ]
}
