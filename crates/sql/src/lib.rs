//! The storage seam: one transaction closure over SQLite and MySQL.
