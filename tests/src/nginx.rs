//! A real nginx as an upstream.

use crate::process::{Process, command};
use crate::wait::eventually;
use crate::world::{World, is_root};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::net::TcpStream;

/// A running nginx: `/` says hello, `/files/` serves files, `/upload/NAME` stores what is PUT there,
/// `/identity` repeats the identity header.
pub struct Nginx {
    /// Where it listens.
    pub address: SocketAddr,
    /// The files below `/files/`.
    pub files: std::path::PathBuf,
    _process: Process,
}

impl Nginx {
    /// Starts one.
    pub async fn start(world: &World) -> Self {
        let root = world.directory("nginx");
        let files = world.directory("nginx/files");
        for _ in 0..5 {
            let address = free_address();
            world.file("nginx/nginx.conf", config(&root.to_string_lossy(), address));
            let mut nginx = command("nginx");
            nginx.arg("-p").arg(&root).args(["-c", "nginx.conf", "-e", "stderr"]);
            let mut process = Process::spawn("nginx", &mut nginx, &world.logs());
            if listening(address, &mut process).await {
                return Self { address, files, _process: process };
            }
        }
        panic!("nginx found no free port");
    }
}

fn config(root: &str, address: SocketAddr) -> String {
    let user = if is_root() { "user root;" } else { "" };
    format!(
        r"daemon off; master_process off; {user} pid {root}/pid; error_log stderr;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;
  uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
  client_max_body_size 100m;
  keepalive_timeout 60s;
  server {{
    listen {address};
    location = / {{ return 200 'hello from nginx, connection $connection request $connection_requests\n'; }}
    location = /identity {{ return 200 '$http_x_postern_identity'; }}
    location /files/ {{ alias {root}/files/; }}
    location /upload/ {{ alias {root}/files/; dav_methods PUT; }}
  }}
}}
"
    )
}

/// An address that was free a moment ago, for programs that cannot tell which port they were given.
pub fn free_address() -> SocketAddr {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// Waits until `address` accepts; false if the program ends instead (somebody else took the port).
pub async fn listening(address: SocketAddr, process: &mut Process) -> bool {
    eventually(&format!("something listens at {address}"), async || {
        if process.ended().is_some() {
            return Some(false);
        }
        TcpStream::connect(address).await.is_ok().then_some(true)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{get, http};
    use http::Request;

    #[tokio::test]
    async fn serves_and_stores_files() {
        let world = World::new();
        let nginx = Nginx::start(&world).await;
        assert!(get(nginx.address, "x", "/").await.text().starts_with("hello from nginx"));
        let put = Request::put("/upload/a").header("host", "x").body("stored").unwrap();
        assert_eq!(http(nginx.address, put).await.status, 201);
        assert_eq!(get(nginx.address, "x", "/files/a").await.text(), "stored");
    }
}
