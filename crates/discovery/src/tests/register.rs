//! Registering, renewing, leaving.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tradewind_base::{SecretString, SystemClock, Tasks};

use super::fake::*;
use crate::{Instance, RegisterError, Registration, RegistryClientConfig, Status};

const SECOND: Duration = Duration::from_secs(1);

/// Registers in the background of the test, which plays the registry meanwhile.
fn registering(
    net: &Net,
    config: RegistryClientConfig,
    tasks: &Tasks,
) -> impl Future<Output = Result<Registration, RegisterError>> {
    let mut instance = instance("order", 9001);
    instance.metadata.insert("lane".into(), "gray".into());
    let clock = Arc::new(SystemClock::new());
    Registration::register(config, net.client(tasks), instance, clock, tasks)
}

async fn registered(net: &Net, registry: &mut Fake, tasks: &Tasks) -> Registration {
    let accept = async { registry.request().await.answer(204).await };
    let (registration, ()) = tokio::join!(registering(net, config(&[1]), tasks), accept);
    registration.unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_instance_is_sent_as_eureka_wants_it() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registry = net.registry(1);
    let user = Some(("u".to_owned(), SecretString::from("p:w")));
    let config = RegistryClientConfig { user, ..config(&[1]) };
    let play = async {
        let request = registry.request().await;
        assert_eq!(request.line, "POST /eureka/apps/ORDER");
        assert_eq!(request.headers["content-type"], "application/json");
        assert_eq!(request.headers["authorization"], "Basic dTpwOnc=");
        let sent = tradewind_eureka::json::read_instance(request.body.as_bytes()).unwrap();
        assert_eq!(sent.validate("ORDER"), Ok(()));
        assert_eq!(sent.effective_id(), "h:order:9001");
        assert_eq!((sent.port.number, sent.port.enabled), (9001, true));
        assert!(!sent.secure_port.enabled);
        assert_eq!((sent.lease.renewal_interval_secs, sent.lease.duration_secs), (1, 3));
        assert_eq!(sent.vip_address.as_deref(), Some("order"));
        assert_eq!(sent.metadata.get("lane"), Some("gray"));
        assert!(sent.last_dirty_ts.is_some());
        request.answer(204).await;
    };
    let (registration, ()) = tokio::join!(registering(&net, config, &tasks), play);
    let registration = registration.unwrap();
    assert!(registration.registered());
    assert!(!format!("{registration:?}").contains("p:w"));
}

#[tokio::test(start_paused = true)]
async fn heartbeats_come_every_second_and_lapse_with_the_lease() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registry = net.registry(1);
    let registration = registered(&net, &mut registry, &tasks).await;
    for _ in 0..20 {
        let before = Instant::now();
        let request = registry.request().await;
        let pause = before.elapsed();
        assert!(SECOND.mul_f64(0.89) <= pause && pause <= SECOND.mul_f64(1.11), "{pause:?}");
        let path = "PUT /eureka/apps/ORDER/h%3Aorder%3A9001?status=UP&lastDirtyTimestamp=";
        assert!(request.line.starts_with(path), "{}", request.line);
        request.answer(200).await;
    }
    assert!(registration.registered());
    registry.die().await;
    tokio::time::sleep(3 * SECOND).await;
    assert!(!registration.registered());
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_forgot_the_instance_is_told_again_at_once() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registry = net.registry(1);
    let registration = registered(&net, &mut registry, &tasks).await;
    let renewal = registry.request().await;
    assert!(renewal.line.starts_with("PUT "));
    renewal.answer(404).await;
    let before = Instant::now();
    let request = registry.request().await;
    assert_eq!(request.line, "POST /eureka/apps/ORDER");
    assert_eq!(before.elapsed(), Duration::ZERO);
    request.answer(204).await;
    registry.request().await.answer(200).await;
    assert!(registration.registered());
}

/// R1.1: the registration moves to a peer that lives, well within its lease.
#[tokio::test(start_paused = true)]
async fn heartbeats_move_to_another_peer() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let (mut one, mut two) = (net.registry(1), net.registry(2));
    let play = async {
        tokio::select! {
            request = one.request() => { request.answer(204).await; true }
            request = two.request() => { request.answer(204).await; false }
        }
    };
    let (registration, first) = tokio::join!(registering(&net, config(&[1, 2]), &tasks), play);
    let registration = registration.unwrap();
    let (dying, mut other) = if first { (one, two) } else { (two, one) };
    dying.die().await;
    let request = other.request().await;
    assert!(request.line.starts_with("PUT "), "{}", request.line);
    request.answer(404).await;
    let request = other.request().await;
    assert!(request.line.starts_with("POST "), "{}", request.line);
    request.answer(204).await;
    other.request().await.answer(200).await;
    assert!(registration.registered());
}

#[tokio::test(start_paused = true)]
async fn without_a_registry_the_start_goes_on_and_registers_later() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registration = registering(&net, config(&[1, 2]), &tasks).await.unwrap();
    assert!(!registration.registered());
    tokio::time::sleep(60 * SECOND).await;
    let mut registry = net.registry(2);
    let before = Instant::now();
    let play = async { registry.request().await.answer(204).await };
    let (yes, ()) = tokio::join!(registration.wait_registered(10 * SECOND), play);
    assert!(yes);
    assert!(before.elapsed() <= 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_stops_the_start_but_not_a_lone_one() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registry = net.registry(1);
    let play = async { registry.request().await.answer(401).await };
    let (result, ()) = tokio::join!(registering(&net, config(&[1]), &tasks), play);
    let error = result.unwrap_err();
    assert!(matches!(error, RegisterError::Refused { status: 401, .. }), "{error}");
    // Of two registries one is down: it might have taken us.
    let play = async { registry.request().await.answer(401).await };
    let (result, ()) = tokio::join!(registering(&net, config(&[1, 2]), &tasks), play);
    assert!(!result.unwrap().registered());
    let result = registering(&net, config(&[]), &tasks).await;
    assert!(matches!(result, Err(RegisterError::NoRegistry)));
}

#[tokio::test(start_paused = true)]
async fn a_new_status_is_told_at_once_with_a_newer_timestamp() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registry = net.registry(1);
    let accept = async {
        let request = registry.request().await;
        let sent = tradewind_eureka::json::read_instance(request.body.as_bytes()).unwrap();
        request.answer(204).await;
        sent
    };
    let (registration, first) = tokio::join!(registering(&net, config(&[1]), &tasks), accept);
    let registration = registration.unwrap();
    let before = Instant::now();
    registration.set_status(Status::OutOfService);
    let request = registry.request().await;
    assert_eq!(before.elapsed(), Duration::ZERO);
    let sent = tradewind_eureka::json::read_instance(request.body.as_bytes()).unwrap();
    assert_eq!(sent.status, tradewind_eureka::Status::OutOfService);
    assert!(first.last_dirty_ts < sent.last_dirty_ts);
    request.answer(204).await;
    let renewal = registry.request().await;
    assert!(renewal.line.contains("status=OUT_OF_SERVICE"), "{}", renewal.line);
}

#[tokio::test(start_paused = true)]
async fn leaving_cancels_and_ends_the_heartbeats() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registry = net.registry(1);
    let registration = registered(&net, &mut registry, &tasks).await;
    let stream = registry.watch().await.stream().await;
    let play = async {
        let request = registry.request().await;
        assert_eq!(request.line, "DELETE /eureka/apps/ORDER/h%3Aorder%3A9001");
        request.answer(200).await;
    };
    let (left, ()) = tokio::join!(registration.leave(SECOND), play);
    assert!(left);
    stream.closed().await;
    assert!(registry.is_quiet(5 * SECOND).await);
    tasks.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn leaving_tries_the_other_peers_and_ends_in_time() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registry = net.registry(1);
    let registration = registered(&net, &mut registry, &tasks).await;
    let before = Instant::now();
    registry.die().await;
    assert!(!registration.leave(2 * SECOND).await);
    assert!(before.elapsed() <= 2 * SECOND);
    tasks.shutdown(SECOND).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dropped_registration_stops_its_heartbeats() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registry = net.registry(1);
    drop(registered(&net, &mut registry, &tasks).await);
    assert!(registry.is_quiet(5 * SECOND).await);
}

/// R1.7: the registry sees the process end by the end of this stream.
#[tokio::test(start_paused = true)]
async fn a_stream_shows_the_presence_of_the_instance() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registry = net.registry(1);
    let registration = registered(&net, &mut registry, &tasks).await;
    let watch = registry.watch().await;
    assert_eq!(watch.line, "GET /tradewind/v1/watch?services=");
    assert_eq!(watch.headers["x-tradewind-instance"], "order/h%3Aorder%3A9001");
    let stream = watch.stream().await;
    stream.line(&snapshot("e", 1, true, &[])).await;
    drop(stream);
    let stream = registry.watch().await.stream().await;
    stream.line(&snapshot("e", 1, true, &[])).await;
    tasks.shutdown(SECOND).await.unwrap();
    stream.closed().await;
    drop(registration);
}

#[tokio::test(start_paused = true)]
async fn a_registry_without_native_streams_is_not_bothered() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registry = net.registry(1);
    let _registration = registered(&net, &mut registry, &tasks).await;
    registry.watch().await.answer(404).await;
    let before = Instant::now();
    let renew = async {
        loop {
            registry.request().await.answer(200).await;
            if 20 * SECOND <= before.elapsed() {
                return;
            }
        }
    };
    renew.await;
    registry.watch().await;
    assert!(25 * SECOND <= before.elapsed());
}

#[test]
fn an_instance_over_tls_has_the_secure_port() {
    let secure = Instance { secure: true, ..instance("order", 9443) };
    assert_eq!(secure.target().to_string(), "https://h:9443");
}
