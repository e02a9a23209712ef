//! Instances that callers could not reach.

use std::time::Duration;

use tradewind_base::Tasks;

use super::fake::*;
use crate::wire::{Reason, Suspicion as Told};
use crate::{Discovery, SET_ASIDE, Suspicion, View};

fn callable(view: &View) -> Vec<u16> {
    view.callable().iter().map(|it| it.port).collect()
}

/// R1.7: the registry hears of it once, at once.
#[tokio::test(start_paused = true)]
async fn a_report_reaches_the_registry_once_a_second() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registry = net.registry(1);
    let discovery = net.discovery(&[1], &tasks);
    for _ in 0..500 {
        discovery.report(&instance("a", 1), Suspicion::Refused);
    }
    let request = registry.request().await;
    assert_eq!(request.line, "POST /tradewind/v1/suspicions");
    assert_eq!(request.headers["content-type"], "application/json");
    let told: Told = serde_json::from_str(&request.body).unwrap();
    assert_eq!((told.service.as_str(), told.id.as_str()), ("a", "h:a:1"));
    assert_eq!(told.reason, Reason::Refused);
    request.answer(202).await;
    assert!(registry.is_quiet(Duration::from_secs(2)).await);
    discovery.report(&instance("a", 1), Suspicion::Timeout);
    registry.request().await.answer(202).await;
}

#[tokio::test(start_paused = true)]
async fn reports_are_bounded_while_the_registry_is_stuck() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registry = net.registry(1);
    let discovery = net.discovery(&[1], &tasks);
    for port in 1..=5000 {
        discovery.report(&instance("a", port), Suspicion::Timeout);
    }
    let mut told = 0;
    // Every report is given up after a second without an answer.
    while !registry.is_quiet(Duration::from_secs(3)).await {
        told += 1;
    }
    assert!(200 < told && told <= 257, "{told}");
}

#[tokio::test(start_paused = true)]
async fn the_next_peer_is_told_when_one_does_not_listen() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let (mut one, mut two) = (net.registry(1), net.registry(2));
    let discovery = net.discovery(&[1, 2, 3], &tasks);
    discovery.report(&instance("a", 1), Suspicion::Reset);
    for status in [503, 202] {
        let request = tokio::select! { it = one.request() => it, it = two.request() => it };
        request.answer(status).await;
    }
    assert!(one.is_quiet(Duration::from_secs(1)).await);
    assert!(two.is_quiet(Duration::from_secs(1)).await);
}

#[tokio::test(start_paused = true)]
async fn a_reported_instance_is_set_aside_for_a_while() {
    let discovery = Discovery::fixed(vec![instance("a", 1), instance("a", 2)]);
    let view = discovery.view(&name("a"));
    discovery.report(&instance("a", 1), Suspicion::Refused);
    assert!(view.suspected(&instance("a", 1).id));
    assert_eq!(callable(&view), [2]);
    tokio::time::sleep(SET_ASIDE).await;
    assert!(!view.suspected(&instance("a", 1).id));
    assert_eq!(callable(&view), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_doubtful_instance_is_better_than_none() {
    let discovery = Discovery::fixed(vec![instance("a", 1), instance("a", 2)]);
    let view = discovery.view(&name("a"));
    for port in [1, 2] {
        view.suspect(&instance("a", port).id, Duration::from_secs(1));
    }
    assert_eq!(callable(&view), [1, 2]);
    view.trust(&instance("a", 2).id);
    assert_eq!(callable(&view), [2]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_changes_is_a_new_chance() {
    let discovery = Discovery::fixed(vec![instance("a", 1), instance("a", 2)]);
    let view = discovery.view(&name("a"));
    for port in [1, 2] {
        view.suspect(&instance("a", port).id, Duration::from_secs(60));
    }
    let mut other = instance("a", 1);
    other.metadata.insert("version".into(), "2".into());
    discovery.replace(vec![other, instance("a", 2)]);
    assert!(!view.suspected(&instance("a", 1).id));
    assert!(view.suspected(&instance("a", 2).id));
}
