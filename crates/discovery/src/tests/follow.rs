//! Following the change stream.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use tradewind_base::Tasks;

use super::fake::*;
use crate::{Discovery, List, View};

fn ports(list: &List) -> Vec<u16> {
    list.instances.iter().map(|it| it.port).collect()
}

async fn until(view: &mut View, expected: &[u16]) {
    let fits = view.wait_for(|it| ports(it) == expected);
    let waited = timeout(Duration::from_secs(30), fits).await;
    assert!(waited.is_ok(), "expected {expected:?}, have {:?}", ports(&view.load()));
}

/// R1.2: a change at the registry is a change here, without polling.
#[tokio::test(start_paused = true)]
async fn a_snapshot_and_its_changes_become_the_list() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registry = net.registry(1);
    let discovery = net.discovery(&[1], &tasks);
    let mut view = discovery.view(&name("order"));
    assert!(!view.known());
    assert_eq!(discovery.ready(Duration::ZERO).await.unwrap_err().missing, [name("order")]);

    let watch = registry.watch().await;
    assert_eq!(watch.line, "GET /tradewind/v1/watch?services=order");
    let stream = watch.stream().await;
    stream.line(&snapshot("e", 3, true, &[("order", &[1, 2])])).await;
    discovery.ready(Duration::from_secs(1)).await.unwrap();
    assert_eq!(ports(&view.load()), [1, 2]);

    let before = Instant::now();
    stream.line(&upsert(4, record("order", 3))).await;
    stream.line(&remove(5, "order", 1)).await;
    until(&mut view, &[2, 3]).await;
    assert_eq!(before.elapsed(), Duration::ZERO, "no timer on the way");
    assert_eq!(view.load().revision, 5);
    let health = discovery.health();
    assert_eq!((health.revision, health.warm), (5, true));
    assert_eq!(health.services[&name("order")], Some(2));
    assert_eq!(health.last_contact_age, Some(Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_line_may_come_in_pieces_and_two_at_once() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registry = net.registry(1);
    let mut view = net.discovery(&[1], &tasks).view(&name("a"));
    let stream = registry.watch().await.stream().await;
    let text = serde_json::to_string(&snapshot("e", 1, true, &[("a", &[1])])).unwrap();
    let (head, tail) = text.split_at(20);
    stream.raw(head).await;
    let change = serde_json::to_string(&upsert(2, record("a", 2))).unwrap();
    stream.raw(&format!("{tail}\n\r\n{change}\n")).await;
    until(&mut view, &[1, 2]).await;
}

/// R2.3: one look at the registry makes all lists ready.
#[tokio::test(start_paused = true)]
async fn views_that_are_made_together_are_followed_together() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registry = net.registry(1);
    let discovery = net.discovery(&[1], &tasks);
    let (mut a, mut b) = (discovery.view(&name("a")), discovery.view(&name("b")));
    let watch = registry.watch().await;
    assert_eq!(watch.line, "GET /tradewind/v1/watch?services=a,b");
    let stream = watch.stream().await;
    stream.line(&snapshot("e", 1, true, &[("a", &[1]), ("b", &[2])])).await;
    discovery.ready(Duration::from_secs(1)).await.unwrap();
    until(&mut a, &[1]).await;
    until(&mut b, &[2]).await;

    // One more: the stream is opened anew, for all, from a snapshot.
    let before = Instant::now();
    let mut c = discovery.view(&name("c"));
    stream.closed().await;
    let watch = registry.watch().await;
    assert!(before.elapsed() <= Duration::from_millis(10), "at once");
    assert_eq!(watch.line, "GET /tradewind/v1/watch?services=a,b,c");
    let stream = watch.stream().await;
    stream.line(&snapshot("e", 1, true, &[("a", &[1]), ("b", &[2]), ("c", &[])])).await;
    until(&mut c, &[]).await;
    assert!(c.known());
}

#[tokio::test(start_paused = true)]
async fn a_lost_stream_goes_on_where_it_ended() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registry = net.registry(1);
    let mut view = net.discovery(&[1], &tasks).view(&name("a"));
    let stream = registry.watch().await.stream().await;
    stream.line(&snapshot("e/1", 1, true, &[("a", &[1])])).await;
    stream.line(&ping(6, true)).await;
    until(&mut view, &[1]).await;
    drop(stream);

    let watch = registry.watch().await;
    assert_eq!(watch.line, "GET /tradewind/v1/watch?services=a&epoch=e%2F1&revision=6");
    let stream = watch.stream().await;
    stream.line(&resume("e/1", 6)).await;
    stream.line(&upsert(7, record("a", 2))).await;
    until(&mut view, &[1, 2]).await;
}

/// A registry that restarted knows nobody yet; nobody is forgotten for it.
#[tokio::test(start_paused = true)]
async fn a_registry_that_restarts_empty_does_not_wipe_the_list() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registry = net.registry(1);
    let discovery = net.discovery(&[1], &tasks);
    let mut view = discovery.view(&name("a"));
    let stream = registry.watch().await.stream().await;
    stream.line(&snapshot("e1", 9, true, &[("a", &[1, 2])])).await;
    until(&mut view, &[1, 2]).await;
    registry.die().await;

    let mut registry = net.registry(1);
    let stream = registry.watch().await.stream().await;
    stream.line(&snapshot("e2", 0, false, &[("a", &[])])).await;
    stream.line(&upsert(1, record("a", 3))).await;
    until(&mut view, &[1, 2, 3]).await;
    assert!(!discovery.health().warm);
    // A caller finds one of the old ones gone; the other one comes back; then the node is warm.
    discovery.report(&instance("a", 1), crate::Suspicion::Refused);
    until(&mut view, &[2, 3]).await;
    stream.line(&ping(1, true)).await;
    until(&mut view, &[3]).await;
}

#[tokio::test(start_paused = true)]
async fn lists_are_kept_for_ever_without_a_registry() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registry = net.registry(1);
    let discovery = net.discovery(&[1], &tasks);
    let mut view = discovery.view(&name("a"));
    let stream = registry.watch().await.stream().await;
    stream.line(&snapshot("e", 1, true, &[("a", &[1])])).await;
    until(&mut view, &[1]).await;
    registry.die().await;

    let day = Duration::from_secs(24 * 3600);
    tokio::time::sleep(day).await;
    assert_eq!(ports(&view.load()), [1]);
    assert!(day <= discovery.health().last_contact_age.unwrap());

    // And it is found again within the longest pause.
    let before = Instant::now();
    let mut registry = net.registry(1);
    let stream = registry.watch().await.stream().await;
    assert!(before.elapsed() <= Duration::from_secs(5));
    stream.line(&snapshot("e2", 1, true, &[("a", &[2])])).await;
    until(&mut view, &[2]).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_worked_makes_up_for_earlier_failures() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registry = net.registry(1);
    let mut view = net.discovery(&[1], &tasks).view(&name("a"));
    for round in 1..=20 {
        let before = Instant::now();
        let stream = registry.watch().await.stream().await;
        assert!(before.elapsed() <= Duration::from_millis(110), "round {round}");
        stream.line(&snapshot(&format!("e{round}"), 1, true, &[("a", &[round])])).await;
        until(&mut view, &[round]).await;
    }
}

/// R1.1: any peer will do.
#[tokio::test(start_paused = true)]
async fn another_peer_is_asked_at_once_when_one_dies() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let (mut one, mut two) = (net.registry(1), net.registry(2));
    let mut view = net.discovery(&[1, 2], &tasks).view(&name("a"));
    let (stream, mut other, dying) = tokio::select! {
        watch = one.watch() => (watch.stream().await, two, one),
        watch = two.watch() => (watch.stream().await, one, two),
    };
    stream.line(&snapshot("e1", 5, true, &[("a", &[1])])).await;
    until(&mut view, &[1]).await;
    let before = Instant::now();
    dying.die().await;
    let watch = other.watch().await;
    assert!(before.elapsed() <= Duration::from_millis(25));
    let stream = watch.stream().await;
    stream.line(&snapshot("e2", 2, true, &[("a", &[1, 2])])).await;
    until(&mut view, &[1, 2]).await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_pings_is_dead() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registry = net.registry(1);
    let mut view = net.discovery(&[1], &tasks).view(&name("a"));
    let stream = registry.watch().await.stream().await;
    stream.line(&snapshot("e", 1, true, &[("a", &[1])])).await;
    until(&mut view, &[1]).await;
    let before = Instant::now();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stream.line(&ping(1, true)).await;
    }
    stream.closed().await;
    let silent = before.elapsed() - Duration::from_secs(10);
    assert!(Duration::from_secs(3) <= silent && silent < Duration::from_millis(3100), "{silent:?}");
    registry.watch().await;
    assert_eq!(ports(&view.load()), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_talks_nonsense_is_left() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registry = net.registry(1);
    let mut view = net.discovery(&[1], &tasks).view(&name("a"));
    registry.watch().await.answer(503).await;
    for text in ["<html>\n", "{\"ping\":{\"revision\":1}}\n", "{\"snapshot\":{}}\n"] {
        let stream = registry.watch().await.stream().await;
        stream.raw(text).await;
        stream.closed().await;
    }
    let stream = registry.watch().await.stream().await;
    stream.line(&snapshot("e", 1, true, &[("a", &[1])])).await;
    until(&mut view, &[1]).await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_tasks_ends_the_following() {
    let (net, tasks) = (Net::default(), Tasks::new());
    let mut registry = net.registry(1);
    let mut view = net.discovery(&[1], &tasks).view(&name("a"));
    let stream = registry.watch().await.stream().await;
    stream.line(&snapshot("e", 1, true, &[("a", &[1])])).await;
    until(&mut view, &[1]).await;
    tasks.shutdown(Duration::from_secs(1)).await.unwrap();
    stream.closed().await;
}

#[tokio::test(start_paused = true)]
async fn a_fixed_list_is_there_at_once_and_can_be_replaced() {
    let discovery = Discovery::fixed(vec![instance("a", 2), instance("a", 1), instance("b", 3)]);
    let mut view = discovery.view(&name("a"));
    assert!(view.known());
    assert_eq!(ports(&view.load()), [1, 2]);
    discovery.ready(Duration::ZERO).await.unwrap();
    discovery.replace(vec![instance("a", 4)]);
    assert_eq!(ports(&*view.changed().await), [4]);
    assert_eq!(view.load().revision, 2);
    assert!(discovery.view(&name("b")).load().instances.is_empty());
    assert_eq!(ports(&discovery.view(&name("a")).load()), [4]);
}
