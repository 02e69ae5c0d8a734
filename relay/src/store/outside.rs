//! What others tell the relay, recorded together with its effect: all of it or nothing, and once.

use super::{Store, StoreError, keep_if_sound, millis, parsed, principal, timestamp};
use postern_protocol::{DeviceId, SessionId, Timestamp};
use postern_relay_core::outside::{Effect, Sessions};
use postern_relay_core::principal::PrincipalKey;
use postern_relay_core::revocation::{Changed, Revocations};
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection as _, QueryBuilder, Row as _, Sqlite, SqliteConnection};
use std::time::Duration;

/// What was told, by its name.
#[derive(Clone, Debug)]
pub struct Told {
    /// `logout` or `event`.
    pub kind: &'static str,
    /// By whom.
    pub issuer: String,
    /// Its name there.
    pub jti: String,
    /// From then on no check lets it pass.
    pub until: Timestamp,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was told before: nothing was done.
    Replayed,
    /// These sessions ended.
    Ended(Vec<Ended>),
    /// Something else changed.
    Changed,
    /// Something newer is known: nothing changed.
    Outdated,
    /// It is not about anything known here.
    Nothing,
}

/// A session that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub session: SessionId,
    /// Whose.
    pub principal: PrincipalKey,
    /// On which device.
    pub device: DeviceId,
}

/// How long tokens of an ended sign-in are refused: none of them counts longer.
const ENDED_SIGN_INS: Duration = Duration::from_secs(2 * 86_400);

/// How long a change of claims matters: no token issued before it counts longer.
pub const CHANGED_CLAIMS: Duration = Duration::from_secs(2 * 86_400);

impl Store {
    /// Adds what decisions need to know of what was told.
    pub(super) async fn add_told(&self, revocations: &mut Revocations, now: Timestamp) -> Result<(), StoreError> {
        let rows =
            sqlx::query("SELECT device FROM device_compliance WHERE compliant = 0").fetch_all(&self.pool).await?;
        for row in rows {
            revocations.comply(parsed(row.try_get("device")?, "device id")?, false);
        }
        let rows = sqlx::query("SELECT issuer, subject, at, told FROM changed_claims WHERE told >= ?")
            .bind(millis(now.minus(CHANGED_CLAIMS)))
            .fetch_all(&self.pool)
            .await?;
        for row in rows {
            let key = principal(row.try_get("issuer")?, row.try_get("subject")?)?;
            let changed = Changed::new(timestamp(row.try_get("at")?), timestamp(row.try_get("told")?));
            revocations.claims_changed(key, changed);
        }
        Ok(())
    }

    /// Records that this was told, and its effect.
    pub async fn apply(&self, told: &Told, effect: &Effect, now: Timestamp) -> Result<Outcome, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let result = record(&mut connection, told, effect, now).await;
        match keep_if_sound(connection, result)? {
            Done::Replayed => Ok(Outcome::Replayed),
            Done::Nothing => Ok(Outcome::Nothing),
            Done::Changed(true) => Ok(Outcome::Changed),
            Done::Changed(false) => Ok(Outcome::Outdated),
            Done::Ended(rows) => rows.iter().map(ended).collect::<Result<_, _>>().map(Outcome::Ended),
        }
    }
}

enum Done {
    Replayed,
    Nothing,
    Changed(bool),
    Ended(Vec<SqliteRow>),
}

async fn record(
    connection: &mut SqliteConnection,
    told: &Told,
    effect: &Effect,
    now: Timestamp,
) -> Result<Done, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let new =
        sqlx::query("INSERT INTO seen_tokens (kind, issuer, jti, until) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(told.kind)
            .bind(&told.issuer)
            .bind(&told.jti)
            .bind(millis(told.until))
            .execute(&mut *transaction)
            .await?;
    if new.rows_affected() == 0 {
        return Ok(Done::Replayed);
    }
    let done = match effect {
        Effect::Nothing(_) => Done::Nothing,
        Effect::End(sessions) => Done::Ended(end(&mut transaction, sessions, now).await?),
        Effect::Compliance { device, compliant, at } => comply(&mut transaction, device, *compliant, *at).await?,
        Effect::ClaimsChanged { principal, at } => {
            let newer = sqlx::query(
                "INSERT INTO changed_claims (issuer, subject, at, told) VALUES (?, ?, ?, ?)
                 ON CONFLICT DO UPDATE SET at = excluded.at, told = excluded.told WHERE excluded.at > at",
            )
            .bind(principal.issuer())
            .bind(principal.subject())
            .bind(millis(*at))
            .bind(millis(now))
            .execute(&mut *transaction)
            .await?;
            Done::Changed(newer.rows_affected() > 0)
        }
    };
    transaction.commit().await?;
    Ok(done)
}

/// Ends the sessions, each as if it were revoked by itself, and the sign-ins from which more could be started.
async fn end(
    transaction: &mut SqliteConnection,
    which: &Sessions,
    now: Timestamp,
) -> Result<Vec<SqliteRow>, sqlx::Error> {
    if which.principal.is_none() && which.session.is_none() && which.device.is_none() {
        return Ok(Vec::new());
    }
    let mut query: QueryBuilder<Sqlite> = QueryBuilder::new("UPDATE sessions SET ended = ");
    query.push_bind(millis(now)).push(" WHERE ended IS NULL AND started <= ").push_bind(millis(which.started_by()));
    if let Some(key) = &which.principal {
        query.push(" AND subject = ").push_bind(key.subject()).push(" AND issuer = ").push_bind(key.issuer());
    }
    if let Some(session) = &which.session {
        query.push(" AND (provider_sid = ").push_bind(session).push(" OR id = ").push_bind(session);
        if which.or_unknown {
            query.push(" OR (provider_sid IS NULL AND service = 0)");
        }
        query.push(")");
    }
    if let Some(device) = &which.device {
        query.push(" AND device = ").push_bind(device.as_str());
    }
    query.push(" RETURNING id, issuer, subject, device");
    let ended = query.build().fetch_all(&mut *transaction).await?;
    for row in &ended {
        sqlx::query("INSERT INTO revocations (kind, id, at) VALUES ('session', ?, ?) ON CONFLICT DO NOTHING")
            .bind(row.try_get::<&str, _>("id")?)
            .bind(millis(now))
            .execute(&mut *transaction)
            .await?;
    }
    let sign_in = match which {
        Sessions { device: Some(_), .. } => None,
        Sessions { session: Some(session), .. } => Some(("provider_sid", session.clone())),
        Sessions { principal: Some(key), .. } => Some(("principal", key.to_string())),
        Sessions { .. } => None,
    };
    if let Some((kind, id)) = sign_in {
        sqlx::query(
            "INSERT INTO ended_sign_ins (kind, id, at, until) VALUES (?, ?, ?, ?)
             ON CONFLICT DO UPDATE SET at = max(at, excluded.at), until = max(until, excluded.until)",
        )
        .bind(kind)
        .bind(id)
        .bind(millis(which.at))
        .bind(millis(now.plus(ENDED_SIGN_INS)))
        .execute(&mut *transaction)
        .await?;
    }
    Ok(ended)
}

/// Keeps the newest word on a device that is known. Of two words of the same time the stricter counts.
async fn comply(
    transaction: &mut SqliteConnection,
    device: &DeviceId,
    compliant: bool,
    at: Timestamp,
) -> Result<Done, sqlx::Error> {
    let known = sqlx::query("SELECT 1 FROM devices WHERE id = ?").bind(device.as_str());
    if known.fetch_optional(&mut *transaction).await?.is_none() {
        return Ok(Done::Nothing);
    }
    let newer = sqlx::query(
        "INSERT INTO device_compliance (device, compliant, at) VALUES (?, ?, ?)
         ON CONFLICT DO UPDATE SET compliant = excluded.compliant, at = excluded.at
         WHERE excluded.at > at OR (excluded.at = at AND excluded.compliant < compliant)",
    )
    .bind(device.as_str())
    .bind(compliant)
    .bind(millis(at))
    .execute(&mut *transaction)
    .await?;
    Ok(Done::Changed(newer.rows_affected() > 0))
}

fn ended(row: &SqliteRow) -> Result<Ended, StoreError> {
    Ok(Ended {
        session: parsed(row.try_get("id")?, "session id")?,
        principal: principal(row.try_get("issuer")?, row.try_get("subject")?)?,
        device: parsed(row.try_get("device")?, "device id")?,
    })
}
