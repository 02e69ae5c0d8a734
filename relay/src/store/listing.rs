//! What administrators ask the store: who is known, which devices, which sessions.

use super::{Store, StoreError, parsed, principal, timestamp};
use postern_protocol::{DeviceId, SessionId, Timestamp};
use postern_relay_core::principal::PrincipalKey;
use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

/// A principal that has signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPrincipal {
    /// Who.
    pub key: PrincipalKey,
    /// The e-mail address of its last sign-in.
    pub email: Option<String>,
}

/// A device, for people.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeviceRow {
    /// Which.
    pub id: DeviceId,
    /// Whose.
    pub owner: PrincipalKey,
    /// What it calls itself.
    pub name: String,
    /// When it enrolled first.
    pub enrolled: Timestamp,
    /// When it last got a certificate.
    pub seen: Timestamp,
    /// Was it revoked?
    pub revoked: bool,
}

/// A session, for people.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionRow {
    /// Which.
    pub id: SessionId,
    /// Whose.
    pub principal: PrincipalKey,
    /// For people.
    pub email: Option<String>,
    /// On which device.
    pub device: DeviceId,
    /// Since when.
    pub started: Timestamp,
    /// When its token was last renewed.
    pub renewed: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
}

/// Most rows of a listing.
const MOST: i64 = 10_000;

impl Store {
    /// Principals whose subject is `text`, or whose e-mail address is, in any case.
    pub async fn principals(&self, text: &str) -> Result<Vec<KnownPrincipal>, StoreError> {
        let rows = sqlx::query(
            "SELECT issuer, subject, email, max(renewed) FROM sessions
             WHERE subject = ?1 OR email = ?1 COLLATE NOCASE GROUP BY issuer, subject ORDER BY issuer, subject LIMIT ?2",
        )
        .bind(text)
        .bind(MOST)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let key = principal(row.try_get("issuer")?, row.try_get("subject")?)?;
                Ok(KnownPrincipal { key, email: row.try_get("email")? })
            })
            .collect()
    }

    /// Has this principal ever signed in?
    pub async fn has_principal(&self, key: &PrincipalKey) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM sessions WHERE subject = ? AND issuer = ? LIMIT 1")
            .bind(key.subject())
            .bind(key.issuer())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.is_some())
    }

    /// Is this device known?
    pub async fn has_device(&self, id: &DeviceId) -> Result<bool, StoreError> {
        let row =
            sqlx::query("SELECT 1 FROM devices WHERE id = ?").bind(id.as_str()).fetch_optional(&self.pool).await?;
        Ok(row.is_some())
    }

    /// Devices, the newest first.
    pub async fn devices(&self) -> Result<Vec<DeviceRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT d.id, issuer, subject, name, enrolled, seen, r.at IS NOT NULL AS revoked FROM devices d
             LEFT JOIN revocations r ON r.kind = 'device' AND r.id = d.id ORDER BY seen DESC LIMIT ?",
        )
        .bind(MOST)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(device).collect()
    }

    /// Sessions, the newest first; `all`: those that ended too.
    pub async fn sessions(&self, all: bool) -> Result<Vec<SessionRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM sessions WHERE ?1 OR ended IS NULL ORDER BY started DESC LIMIT ?2")
            .bind(all)
            .bind(MOST)
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(session).collect()
    }
}

fn device(row: &SqliteRow) -> Result<DeviceRow, StoreError> {
    Ok(DeviceRow {
        id: parsed(row.try_get("id")?, "device id")?,
        owner: principal(row.try_get("issuer")?, row.try_get("subject")?)?,
        name: row.try_get("name")?,
        enrolled: timestamp(row.try_get("enrolled")?),
        seen: timestamp(row.try_get("seen")?),
        revoked: row.try_get("revoked")?,
    })
}

fn session(row: &SqliteRow) -> Result<SessionRow, StoreError> {
    Ok(SessionRow {
        id: parsed(row.try_get("id")?, "session id")?,
        principal: principal(row.try_get("issuer")?, row.try_get("subject")?)?,
        email: row.try_get("email")?,
        device: parsed(row.try_get("device")?, "device id")?,
        started: timestamp(row.try_get("started")?),
        renewed: timestamp(row.try_get("renewed")?),
        ended: row.try_get::<Option<i64>, _>("ended")?.map(timestamp),
    })
}
