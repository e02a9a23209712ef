//! What the disk itself costs: one fdatasync of 4 KiB.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

/// Medians in µs.
pub(crate) struct SyncCost {
    pub(crate) appended: f64,
    pub(crate) overwritten: f64,
}

const WRITES: usize = 200;

/// Writes 4 KiB and syncs, [`WRITES`] times at the end of a file and as often over its start.
pub(crate) fn sync_cost(folder: &Path) -> io::Result<SyncCost> {
    let mut file = File::create_new(folder.join("sync"))?;
    let appended = median(&mut file, false)?;
    let overwritten = median(&mut file, true)?;
    Ok(SyncCost { appended, overwritten })
}

fn median(file: &mut File, overwrite: bool) -> io::Result<f64> {
    let page = [7_u8; 4096];
    let mut spans = Vec::with_capacity(WRITES);
    for _ in 0..WRITES {
        if overwrite {
            file.seek(SeekFrom::Start(0))?;
        }
        let start = Instant::now();
        file.write_all(&page)?;
        file.sync_data()?;
        spans.push(start.elapsed());
    }
    spans.sort_unstable();
    let middle = spans.get(WRITES / 2).map_or(Duration::ZERO, |it| *it);
    Ok(middle.as_secs_f64() * 1e6)
}
