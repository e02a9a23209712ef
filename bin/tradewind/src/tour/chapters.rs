//! The chapters, in their order.

mod audit;
mod doubled_click;
mod killed_instance;
mod last_unit;
mod lost_ack;
mod order;
mod undone;

use super::proof::Held;
use super::scene::Scene;

/// How many there are.
pub(super) const COUNT: u8 = 7;

/// Tells one chapter.
pub(super) async fn tell(number: u8, scene: &Scene<'_>) -> Held {
    match number {
        1 => Box::pin(order::tell(scene)).await,
        2 => Box::pin(undone::tell(scene)).await,
        3 => Box::pin(killed_instance::tell(scene)).await,
        4 => Box::pin(lost_ack::tell(scene)).await,
        5 => Box::pin(doubled_click::tell(scene)).await,
        6 => Box::pin(last_unit::tell(scene)).await,
        _ => Box::pin(audit::tell(scene)).await,
    }
}
