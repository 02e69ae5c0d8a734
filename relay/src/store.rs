//! What outlives a restart: devices, sessions, revocations, used tokens, the newest audit checkpoint. SQLite.

mod listing;
mod migrations;
mod outside;

pub use listing::{DeviceRow, KnownPrincipal, SessionRow};
pub use outside::{Applied, CHANGED_CLAIMS, Ended, Outcome, SETTLING, Told};

use postern_protocol::{Code, DeviceId, Problem, SessionId, Timestamp};
use postern_relay_core::audit::Checkpoint;
use postern_relay_core::principal::PrincipalKey;
use postern_relay_core::revocation::{Revocations, Target};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Connection as _, Row as _, Sqlite, SqliteConnection};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

/// Why the store gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused or could not be reached.
    #[error("the store: {0}")]
    Database(#[from] sqlx::Error),
    /// Its tables could not be brought up to date.
    #[error("the store's tables: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The file could not be made.
    #[error("the store's file: {0}")]
    File(#[from] std::io::Error),
    /// A row holds what was never written there.
    #[error("the store holds a malformed {0}")]
    Malformed(&'static str),
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        // What the database says may name paths and rows: it is for the log, not for the caller.
        tracing::error!(error = %error, "store");
        Self::new(Code::StoreUnavailable)
    }
}

/// The store of one relay.
#[derive(Clone)]
pub struct Store {
    pool: SqlitePool,
}

/// A sign-in that passed every check, to be recorded.
pub struct SignIn<'a> {
    /// The new session.
    pub session: &'a SessionId,
    /// On which device.
    pub device: &'a DeviceId,
    /// What the device calls itself.
    pub device_name: &'a str,
    /// Who.
    pub principal: &'a PrincipalKey,
    /// For people.
    pub email: Option<&'a str>,
    /// For people.
    pub name: Option<&'a str>,
    /// Is it a service account?
    pub service: bool,
    /// SHA-256 of what is signed of the provider's token.
    pub token_hash: [u8; 32],
    /// When the token was issued.
    pub token_issued: Timestamp,
    /// When the token has ended for good.
    pub token_until: Timestamp,
    /// The provider's session, where the token names it.
    pub provider_session: Option<&'a str>,
}

/// A session as renewal finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Whose.
    pub principal: PrincipalKey,
    /// On which device.
    pub device: DeviceId,
    /// Is it a service account's?
    pub service: bool,
    /// Has it ended?
    pub ended: bool,
}

/// How long a session that nobody renews is remembered.
const IDLE_SESSIONS: Duration = Duration::from_secs(90 * 86_400);

/// How long a revoked session needs to stand among the revocations: no session token lives longer. After that
/// its row, which says that it ended, is enough.
const SESSION_REVOCATIONS: Duration = Duration::from_secs(2 * 3600);

impl Store {
    /// Opens or makes the database and brings its tables up to date.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        // SQLite gives its side files the mode of this one.
        std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(5))
            .connect_with(options)
            .await?;
        migrations::migrations().run(&pool).await?;
        Ok(Self { pool })
    }

    /// Finishes what is under way and closes the database.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Records a sign-in: uses up the token, makes the device known, starts the session. All of it or nothing.
    /// The error is `identity_token_used`, `identity_token_stale`, `device_owned` or `store_unavailable`.
    pub async fn start_session(&self, sign_in: &SignIn<'_>, now: Timestamp) -> Result<(), Problem> {
        let mut connection = self.pool.acquire().await.map_err(StoreError::from)?;
        let result = record_sign_in(&mut connection, sign_in, now).await;
        match keep_if_sound(connection, result)? {
            Some(code) => Err(Problem::new(code)),
            None => Ok(()),
        }
    }

    /// The session of this id.
    pub async fn session(&self, id: &SessionId) -> Result<Option<Session>, StoreError> {
        let row = sqlx::query("SELECT issuer, subject, device, service, ended FROM sessions WHERE id = ?")
            .bind(id.as_str())
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Session {
            principal: principal(row.try_get("issuer")?, row.try_get("subject")?)?,
            device: parsed(row.try_get("device")?, "device id")?,
            service: row.try_get("service")?,
            ended: row.try_get::<Option<i64>, _>("ended")?.is_some(),
        }))
    }

    /// Notes that a live session was renewed, what its token calls the person now, and the provider's session where the
    /// token names one. False: it has ended meanwhile, or that session of the provider has.
    pub async fn renew_session(
        &self,
        id: &SessionId,
        email: Option<&str>,
        name: Option<&str>,
        provider_session: Option<&str>,
        proved: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let row = sqlx::query(
            "UPDATE sessions SET renewed = ?1, email = coalesce(?2, email), name = coalesce(?3, name),
                 provider_sid = coalesce(?4, provider_sid), proved = max(coalesce(proved, ?6, started), coalesce(?6, 0))
             WHERE id = ?5 AND ended IS NULL
               AND NOT EXISTS (SELECT 1 FROM ended_sign_ins WHERE kind = 'provider_sid' AND id = ?4)
             RETURNING proved",
        )
        .bind(millis(now))
        .bind(email)
        .bind(name)
        .bind(provider_session)
        .bind(id.as_str())
        .bind(proved.map(|at| millis(at.min(now))))
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| Ok(timestamp(row.try_get("proved")?))).transpose()
    }

    /// Uses up a token that was not used to enrol, so that it never will be.
    pub async fn use_up(&self, token_hash: &[u8; 32], until: Timestamp) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO used_tokens (hash, until) VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(token_hash.as_slice())
            .bind(millis(until))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Notes that a device got another certificate.
    pub async fn device_seen(&self, id: &DeviceId, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query("UPDATE devices SET seen = ? WHERE id = ?")
            .bind(millis(now))
            .bind(id.as_str())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Records a revocation and ends the sessions it concerns. Returns those that lived until now.
    pub async fn revoke(&self, target: &Target, now: Timestamp) -> Result<Vec<SessionId>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let result = record_revocation(&mut connection, target, now).await;
        let rows = keep_if_sound(connection, result)?;
        rows.iter().map(|row| parsed(row.try_get("id")?, "session id")).collect()
    }

    /// Takes the revocation of a principal or device back. Sessions that it ended stay ended. False: there was none.
    pub async fn restore(&self, target: &Target) -> Result<bool, StoreError> {
        let (kind, id) = named(target);
        let done = sqlx::query("DELETE FROM revocations WHERE kind = ? AND id = ?")
            .bind(kind)
            .bind(id)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Every revocation that decisions need to know.
    pub async fn revocations(&self, now: Timestamp) -> Result<Revocations, StoreError> {
        let rows = sqlx::query("SELECT kind, id FROM revocations WHERE kind <> 'session' OR at > ?")
            .bind(millis(now.minus(SESSION_REVOCATIONS)))
            .fetch_all(&self.pool)
            .await?;
        let mut revocations = Revocations::default();
        for row in rows {
            let id: &str = row.try_get("id")?;
            revocations.insert(match row.try_get::<&str, _>("kind")? {
                "principal" => Target::Principal(parsed(id, "principal")?),
                "device" => Target::Device(parsed(id, "device id")?),
                _ => Target::Session(parsed(id, "session id")?),
            });
        }
        self.add_told(&mut revocations, now).await?;
        Ok(revocations)
    }

    /// Forgets what can no longer matter. Returns the sessions that need not stand among the revocations any more.
    pub async fn prune(&self, now: Timestamp) -> Result<Vec<SessionId>, StoreError> {
        for past in [
            "DELETE FROM used_tokens WHERE until < ?",
            "DELETE FROM seen_tokens WHERE until < ?",
            "DELETE FROM ended_sign_ins WHERE until < ?",
        ] {
            sqlx::query(past).bind(millis(now)).execute(&self.pool).await?;
        }
        sqlx::query("DELETE FROM changed_claims WHERE told < ?")
            .bind(millis(now.minus(CHANGED_CLAIMS)))
            .execute(&self.pool)
            .await?;
        let idle = millis(now.minus(IDLE_SESSIONS));
        sqlx::query("DELETE FROM sessions WHERE renewed < ?").bind(idle).execute(&self.pool).await?;
        sqlx::query("DELETE FROM devices WHERE seen < ? AND id NOT IN (SELECT device FROM sessions)")
            .bind(idle)
            .execute(&self.pool)
            .await?;
        // The word against a device stays: it holds if the device comes back.
        sqlx::query("DELETE FROM device_compliance WHERE compliant = 1 AND device NOT IN (SELECT id FROM devices)")
            .execute(&self.pool)
            .await?;
        let rows = sqlx::query("DELETE FROM revocations WHERE kind = 'session' AND at < ? RETURNING id")
            .bind(millis(now.minus(SESSION_REVOCATIONS)))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| parsed(row.try_get("id")?, "session id")).collect()
    }

    /// Keeps the audit log's newest checkpoint.
    pub async fn keep_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO audit_checkpoint (one, seq, head) VALUES (1, ?, ?)
             ON CONFLICT (one) DO UPDATE SET seq = excluded.seq, head = excluded.head",
        )
        .bind(i64::try_from(checkpoint.seq).unwrap_or(i64::MAX))
        .bind(&checkpoint.head)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// The audit log's newest checkpoint.
    pub async fn checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        let row = sqlx::query("SELECT seq, head FROM audit_checkpoint").fetch_optional(&self.pool).await?;
        let Some(row) = row else { return Ok(None) };
        let seq = u64::try_from(row.try_get::<i64, _>("seq")?).map_err(|_| StoreError::Malformed("checkpoint"))?;
        Ok(Some(Checkpoint { seq, head: row.try_get("head")? }))
    }
}

/// The result of a transaction. After a failure its connection is not used again: when a disk is full, SQLite may
/// have ended the transaction by itself, and the connection would refuse to begin another.
fn keep_if_sound<T, E>(mut connection: PoolConnection<Sqlite>, result: Result<T, E>) -> Result<T, StoreError>
where
    StoreError: From<E>,
{
    if result.is_err() {
        connection.close_on_drop();
    }
    Ok(result?)
}

/// The writes of a sign-in; a code instead where it must not be.
async fn record_sign_in(
    connection: &mut SqliteConnection,
    sign_in: &SignIn<'_>,
    now: Timestamp,
) -> Result<Option<Code>, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let fresh = sqlx::query("INSERT INTO used_tokens (hash, until) VALUES (?, ?) ON CONFLICT DO NOTHING")
        .bind(sign_in.token_hash.as_slice())
        .bind(millis(sign_in.token_until))
        .execute(&mut *transaction)
        .await?;
    if fresh.rows_affected() == 0 {
        return Ok(Some(Code::IdentityTokenUsed));
    }
    let over = sqlx::query(
        "SELECT 1 FROM ended_sign_ins
         WHERE (kind = 'provider_sid' AND id = ?) OR (kind = 'principal' AND id = ? AND at > ?)",
    )
    .bind(sign_in.provider_session)
    .bind(sign_in.principal.to_string())
    .bind(millis(sign_in.token_issued));
    if over.fetch_optional(&mut *transaction).await?.is_some() {
        return Ok(Some(Code::IdentityTokenStale));
    }
    let (issuer, subject) = (sign_in.principal.issuer(), sign_in.principal.subject());
    let owned = sqlx::query(
        "INSERT INTO devices (id, issuer, subject, name, enrolled, seen) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, seen = excluded.seen
         WHERE issuer = excluded.issuer AND subject = excluded.subject",
    )
    .bind(sign_in.device.as_str())
    .bind(issuer)
    .bind(subject)
    .bind(sign_in.device_name)
    .bind(millis(now))
    .bind(millis(now))
    .execute(&mut *transaction)
    .await?;
    if owned.rows_affected() == 0 {
        return Ok(Some(Code::DeviceOwned));
    }
    sqlx::query(
        "INSERT INTO sessions (id, device, issuer, subject, email, name, service, started, renewed, provider_sid,
             signed_in)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(sign_in.session.as_str())
    .bind(sign_in.device.as_str())
    .bind(issuer)
    .bind(subject)
    .bind(sign_in.email)
    .bind(sign_in.name)
    .bind(sign_in.service)
    .bind(millis(now))
    .bind(millis(now))
    .bind(sign_in.provider_session)
    .bind(millis(sign_in.token_issued))
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(None)
}

/// The writes of a revocation. Returns the sessions that it ended.
async fn record_revocation(
    connection: &mut SqliteConnection,
    target: &Target,
    now: Timestamp,
) -> Result<Vec<SqliteRow>, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let (kind, id) = named(target);
    sqlx::query("INSERT INTO revocations (kind, id, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
        .bind(kind)
        .bind(id)
        .bind(millis(now))
        .execute(&mut *transaction)
        .await?;
    let end = match target {
        Target::Principal(key) => sqlx::query(
            "UPDATE sessions SET ended = ?1 WHERE subject = ?2 AND issuer = ?3 AND ended IS NULL RETURNING id",
        )
        .bind(millis(now))
        .bind(key.subject())
        .bind(key.issuer()),
        Target::Device(id) => {
            sqlx::query("UPDATE sessions SET ended = ?1 WHERE device = ?2 AND ended IS NULL RETURNING id")
                .bind(millis(now))
                .bind(id.as_str())
        }
        Target::Session(id) => {
            sqlx::query("UPDATE sessions SET ended = ?1 WHERE id = ?2 AND ended IS NULL RETURNING id")
                .bind(millis(now))
                .bind(id.as_str())
        }
    };
    let ended = end.fetch_all(&mut *transaction).await?;
    // Each by itself: its tokens stay revoked although the principal or device is restored.
    for row in &ended {
        sqlx::query("INSERT INTO revocations (kind, id, at) VALUES ('session', ?, ?) ON CONFLICT DO NOTHING")
            .bind(row.try_get::<&str, _>("id")?)
            .bind(millis(now))
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(ended)
}

/// A target as the table of revocations names it.
fn named(target: &Target) -> (&'static str, String) {
    match target {
        Target::Principal(key) => ("principal", key.to_string()),
        Target::Device(id) => ("device", id.to_string()),
        Target::Session(id) => ("session", id.to_string()),
    }
}

fn principal(issuer: &str, subject: &str) -> Result<PrincipalKey, StoreError> {
    PrincipalKey::new(issuer, subject).map_err(|_| StoreError::Malformed("principal"))
}

fn parsed<T: std::str::FromStr>(text: &str, what: &'static str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Malformed(what))
}

fn millis(at: Timestamp) -> i64 {
    i64::try_from(at.millis()).unwrap_or(i64::MAX)
}

fn timestamp(millis: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(millis).unwrap_or(0))
}

#[cfg(test)]
mod tests;
