//! The steps that bring the tables up to date. A step that was released is never edited; the next one goes below it.

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};

pub(super) fn migrations() -> Migrator {
    let first = include_str!("../../migrations/0001_first.sql").into_sql_str();
    let outside = include_str!("../../migrations/0002_outside.sql").into_sql_str();
    let late = include_str!("../../migrations/0003_late.sql").into_sql_str();
    let proved = include_str!("../../migrations/0004_proved.sql").into_sql_str();
    Migrator::with_migrations(vec![
        Migration::new(1, "first".into(), MigrationType::Simple, first, false),
        Migration::new(2, "outside".into(), MigrationType::Simple, outside, false),
        Migration::new(3, "late".into(), MigrationType::Simple, late, false),
        Migration::new(4, "proved".into(), MigrationType::Simple, proved, false),
    ])
}
