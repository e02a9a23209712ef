//! What is finished long enough goes, in batches.

use tradewind_base::Timestamp;
use tradewind_sql::{Transaction, params};

use super::{Store, StoreError, bytes, message_id};

impl Store {
    /// Removes messages that ended before `before`, and final fence rows of that age; at most
    /// `limit` of each. Says how many rows went. What is open, parked, dead or tried stays.
    pub(crate) async fn clean(&self, before: Timestamp, limit: u32) -> Result<u32, StoreError> {
        let look = move |tx: &mut Transaction<'_>| {
            let sql = "SELECT id FROM message WHERE ended_ms < ? ORDER BY ended_ms LIMIT ?";
            let messages = tx.query(sql, params![before, limit], |row| message_id(row, 0))?;
            let sql = "SELECT xid, branch FROM branch_fence
                WHERE state IN (2, 3, 4) AND at_ms < ? LIMIT ?";
            let fences = tx.query(sql, params![before, limit], |row| {
                Ok((row.get::<Vec<u8>>(0)?, row.get::<u16>(1)?))
            })?;
            Ok((messages, fences))
        };
        let (messages, fences) = self.database.read("finished", look).await?;
        if messages.is_empty() && fences.is_empty() {
            return Ok(0);
        }
        let work = move |tx: &mut Transaction<'_>| {
            let mut rows = 0;
            for id in &messages {
                let sql = "DELETE FROM message WHERE id = ? AND ended_ms < ? AND open_count = 0";
                if tx.execute(sql, params![bytes(*id), before])? == 1 {
                    let sql = "DELETE FROM delivered WHERE message_id = ?";
                    tx.execute(sql, params![bytes(*id)])?;
                    rows += 1;
                }
            }
            for (xid, branch) in &fences {
                let sql = "DELETE FROM branch_fence
                    WHERE xid = ? AND branch = ? AND state IN (2, 3, 4) AND at_ms < ?";
                tx.execute(sql, params![xid.clone(), *branch, before])?;
                rows += 1;
            }
            Ok(rows)
        };
        self.database.transaction_at_leisure("clean", work).await
    }
}
