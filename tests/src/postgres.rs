//! A real PostgreSQL as an upstream.

use crate::nginx::{free_address, listening};
use crate::process::{Output, Process, command, command_as, run_with};
use crate::world::{World, is_root};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// A running server with one superuser, `postgres`, trusted on loopback.
pub struct Postgres {
    /// Where it listens.
    pub address: SocketAddr,
    _process: Process,
}

impl Postgres {
    /// Makes a cluster and starts its server, as the user `postgres` if we are root (it refuses to run as root).
    pub async fn start(world: &World) -> Self {
        let data = world.directory("postgres").join("data");
        if is_root() {
            crate::process::run(command("chown").arg("postgres").arg(world.path("postgres"))).await.ok();
        }
        let mut initdb = program("initdb");
        initdb.arg("-D").arg(&data).args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
            "--no-instructions",
        ]);
        crate::process::run(&mut initdb).await.ok();
        for _ in 0..5 {
            let address = free_address();
            let mut server = program("postgres");
            server
                .arg("-D")
                .arg(&data)
                .args(["-h", "127.0.0.1", "-p", &address.port().to_string()])
                .args(["-k", "", "-F"]);
            let mut process = Process::spawn("postgres", &mut server, &world.logs());
            if listening(address, &mut process).await {
                return Self { address, _process: process };
            }
        }
        panic!("PostgreSQL found no free port");
    }
}

/// Runs `psql` against `port` of this machine, with `input` on its standard input.
pub async fn psql(port: u16, statement: &str, input: &[u8]) -> Output {
    let mut psql = command("psql");
    psql.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "postgres", "-X", "-q", "-A", "-t"]);
    psql.args(["-v", "ON_ERROR_STOP=1", "-c", statement]).env("PGCONNECT_TIMEOUT", "20").env("PGSSLMODE", "disable");
    run_with(&mut psql, input).await
}

fn program(name: &str) -> Command {
    let path = directory().join(name);
    if is_root() { command_as("postgres", path) } else { command(path) }
}

/// Debian keeps the server's programs out of the search path.
fn directory() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut found: Vec<_> = versions.map(|version| version.unwrap().path().join("bin")).collect();
    found.retain(|bin| bin.join("initdb").is_file());
    found.sort();
    found.pop().unwrap_or_else(|| Path::new("/usr/bin").to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_queries() {
        let world = World::new();
        let server = Postgres::start(&world).await;
        assert_eq!(psql(server.address.port(), "select 6 * 7", b"").await.ok().stdout, "42\n");
    }
}
