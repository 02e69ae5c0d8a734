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

/// What became of it, and whether that was earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What became of it.
    pub outcome: Outcome,
    /// It took effect when it was told before, but that is not known to be in the audit log.
    pub before: bool,
}

/// How long a change of claims may take from being told to being known to all decisions: session tokens that are issued
/// meanwhile are void, after a restart too.
pub const SETTLING: Duration = Duration::from_secs(10);

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

    /// Records that this was told, and its effect. What came of it is kept until [`Store::told`].
    pub async fn apply(&self, told: &Told, effect: &Effect, now: Timestamp) -> Result<Applied, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let result = record(&mut connection, told, effect, now).await;
        keep_if_sound(connection, result)
    }

    /// Notes that the audit log has what came of this.
    pub async fn told(&self, told: &Told) -> Result<(), StoreError> {
        sqlx::query("UPDATE seen_tokens SET outcome = NULL WHERE kind = ? AND issuer = ? AND jti = ?")
            .bind(told.kind)
            .bind(&told.issuer)
            .bind(&told.jti)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Notes that a change of claims was known to all decisions only by `then`.
    pub async fn settled(&self, principal: &PrincipalKey, then: Timestamp) -> Result<(), StoreError> {
        sqlx::query("UPDATE changed_claims SET told = max(told, ?) WHERE issuer = ? AND subject = ?")
            .bind(millis(then))
            .bind(principal.issuer())
            .bind(principal.subject())
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

async fn record(
    connection: &mut SqliteConnection,
    told: &Told,
    effect: &Effect,
    now: Timestamp,
) -> Result<Applied, StoreError> {
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
        return before(&mut transaction, told).await;
    }
    let outcome = match effect {
        Effect::Nothing(_) => Outcome::Nothing,
        Effect::End(sessions) => Outcome::Ended(end(&mut transaction, sessions, now).await?),
        Effect::Compliance { device, compliant, at } => comply(&mut transaction, device, *compliant, *at).await?,
        Effect::ClaimsChanged { principal, at } => {
            let newer = sqlx::query(
                "INSERT INTO changed_claims (issuer, subject, at, told) VALUES (?, ?, ?, ?)
                 ON CONFLICT DO UPDATE SET at = excluded.at, told = max(told, excluded.told)
                 WHERE excluded.at >= at",
            )
            .bind(principal.issuer())
            .bind(principal.subject())
            .bind(millis(*at))
            .bind(millis(now.plus(SETTLING)))
            .execute(&mut *transaction)
            .await?;
            changed(newer.rows_affected())
        }
    };
    sqlx::query("UPDATE seen_tokens SET outcome = ? WHERE kind = ? AND issuer = ? AND jti = ?")
        .bind(kept(&outcome))
        .bind(told.kind)
        .bind(&told.issuer)
        .bind(&told.jti)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(Applied { outcome, before: false })
}

fn changed(rows: u64) -> Outcome {
    if rows > 0 { Outcome::Changed } else { Outcome::Outdated }
}

/// What came of it, as [`before`] reads it.
fn kept(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Ended(sessions) => {
            sessions.iter().fold("ended".to_owned(), |text, ended| format!("{text} {}", ended.session))
        }
        Outcome::Changed => "changed".to_owned(),
        Outcome::Outdated => "outdated".to_owned(),
        Outcome::Nothing | Outcome::Replayed => "nothing".to_owned(),
    }
}

/// What came of it when it was told before; only that it was, once the audit log has the rest.
async fn before(transaction: &mut SqliteConnection, told: &Told) -> Result<Applied, StoreError> {
    let row = sqlx::query("SELECT outcome FROM seen_tokens WHERE kind = ? AND issuer = ? AND jti = ?")
        .bind(told.kind)
        .bind(&told.issuer)
        .bind(&told.jti)
        .fetch_one(&mut *transaction)
        .await?;
    let Some(kept) = row.try_get::<Option<&str>, _>("outcome")? else {
        return Ok(Applied { outcome: Outcome::Replayed, before: true });
    };
    let mut words = kept.split(' ');
    let outcome = match words.next() {
        Some("ended") => {
            let mut sessions = Vec::new();
            for id in words {
                let session = sqlx::query("SELECT id, issuer, subject, device FROM sessions WHERE id = ?").bind(id);
                if let Some(row) = session.fetch_optional(&mut *transaction).await? {
                    sessions.push(ended(&row)?);
                }
            }
            Outcome::Ended(sessions)
        }
        Some("changed") => Outcome::Changed,
        Some("outdated") => Outcome::Outdated,
        _ => Outcome::Nothing,
    };
    Ok(Applied { outcome, before: true })
}

/// Ends the sessions, each as if it were revoked by itself, and the sign-ins from which more could be started.
async fn end(transaction: &mut SqliteConnection, which: &Sessions, now: Timestamp) -> Result<Vec<Ended>, StoreError> {
    if which.principal.is_none() && which.session.is_none() && which.device.is_none() {
        return Ok(Vec::new());
    }
    let mut query: QueryBuilder<Sqlite> = QueryBuilder::new("UPDATE sessions SET ended = ");
    query.push_bind(millis(now)).push(" WHERE ended IS NULL");
    if let Some(key) = &which.principal {
        query.push(" AND subject = ").push_bind(key.subject()).push(" AND issuer = ").push_bind(key.issuer());
    }
    if let Some(session) = &which.session {
        // Named itself, a session ends however late it is told.
        query.push(" AND (provider_sid = ").push_bind(session).push(" OR id = ").push_bind(session);
        if which.or_unknown {
            query.push(" OR (provider_sid IS NULL AND service = 0 AND coalesce(signed_in, started) <= ");
            query.push_bind(millis(which.signed_in_by())).push(")");
        }
        query.push(")");
    } else {
        // By when the provider issued the token, not by when it came here: a device may enrol while this is on its way.
        query.push(" AND coalesce(signed_in, started) <= ").push_bind(millis(which.signed_in_by()));
    }
    if let Some(device) = &which.device {
        query.push(" AND device = ").push_bind(device.as_str());
    }
    query.push(" RETURNING id, issuer, subject, device");
    let rows = query.build().fetch_all(&mut *transaction).await?;
    for row in &rows {
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
    rows.iter().map(ended).collect()
}

/// Keeps the newest word on a device that is known. Of two words of the same time the stricter counts.
async fn comply(
    transaction: &mut SqliteConnection,
    device: &DeviceId,
    compliant: bool,
    at: Timestamp,
) -> Result<Outcome, StoreError> {
    let known = sqlx::query("SELECT 1 FROM devices WHERE id = ?").bind(device.as_str());
    if known.fetch_optional(&mut *transaction).await?.is_none() {
        return Ok(Outcome::Nothing);
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
    Ok(changed(newer.rows_affected()))
}

fn ended(row: &SqliteRow) -> Result<Ended, StoreError> {
    Ok(Ended {
        session: parsed(row.try_get("id")?, "session id")?,
        principal: principal(row.try_get("issuer")?, row.try_get("subject")?)?,
        device: parsed(row.try_get("device")?, "device id")?,
    })
}
