//! Debian's Glewlwyd: a real OpenID provider whose logout tokens have `typ` JWT and no end.

use crate::browser::Browser;
use crate::client::Reply;
use crate::nginx::{free_address, listening};
use crate::process::{Process, command, run};
use crate::relay::Relay;
use crate::world::World;
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::net::TcpListener;
use url::Url;

/// A running Glewlwyd with the person `ada`.
pub struct Glewlwyd {
    /// Its issuer.
    pub issuer: Url,
    admin: tokio::sync::Mutex<Browser>,
    address: SocketAddr,
    _process: Process,
}

const PASSWORD: &str = "correct-horse-canary";
/// The cookie of its OpenID sessions; the value is the session's `sid`.
const SESSION: &str = "GLEWLWYD2_OIDC_SESSION";
/// The tables as the package brings them.
const TABLES: &str = "/usr/share/dbconfig-common/data/glewlwyd/install/sqlite3";

impl Glewlwyd {
    /// Starts one.
    pub async fn start(world: &World) -> Self {
        let database = world.directory("glewlwyd").join("glewlwyd.db");
        run(command("sqlite3").arg(&database).arg(format!(".read {TABLES}"))).await.ok();
        for _ in 0..5 {
            let address = free_address();
            let file = world.file("glewlwyd/glewlwyd.conf", config(address, &database.to_string_lossy()));
            let mut glewlwyd = command("glewlwyd");
            glewlwyd.arg("-c").arg(file);
            let mut process = Process::spawn("glewlwyd", &mut glewlwyd, &world.logs());
            if listening(address, &mut process).await {
                let issuer: Url = format!("http://{address}/api/oidc").parse().unwrap();
                let admin = tokio::sync::Mutex::new(Browser::of("admin"));
                let glewlwyd = Self { issuer, admin, address, _process: process };
                glewlwyd.set_up().await;
                return glewlwyd;
            }
        }
        panic!("glewlwyd found no free port");
    }

    async fn set_up(&self) {
        self.ask("POST", "auth/", json!({"username": "admin", "password": "password"})).await;
        // RSA: agents refuse the signatures that it makes with a P-256 key.
        let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        let parameters = json!({
            "iss": self.issuer, "jwt-type": "rsa", "jwt-key-size": "256", "key": key.serialize_pem(),
            "cert": key.public_key_pem(), "access-token-duration": 300, "refresh-token-duration": 3600,
            "code-duration": 60, "refresh-token-rolling": true, "allow-non-oidc": true, "subject-type": "public",
            "auth-type-code-enabled": true, "auth-type-id-token-enabled": true, "auth-type-refresh-enabled": true,
            "auth-type-token-enabled": false, "auth-type-none-enabled": false, "auth-type-password-enabled": false,
            "auth-type-client-enabled": false, "auth-type-device-enabled": false, "scope": [], "claims": [],
            "additional-parameters": [], "pkce-allowed": true, "pkce-method-plain-allowed": false,
            "session-management-allowed": true, "session-cookie-name": SESSION, "session-cookie-expiration": 3600,
            "back-channel-logout-allowed": true, "front-channel-logout-allowed": false, "name-claim": "no",
            "email-claim": "no", "introspection-revocation-allowed": false,
        });
        let plugin = json!({"module": "oidc", "name": "oidc", "display_name": "oidc", "parameters": parameters});
        self.ask("POST", "mod/plugin/", plugin).await;
        let ada = json!({
            "username": "ada", "name": "Ada Lovelace", "email": "ada@corp.example", "password": PASSWORD,
            "enabled": true, "scope": ["g_profile", "openid"],
        });
        self.ask("POST", "user/", ada).await;
    }

    /// Registers the client `postern` with this port of its redirect, and the relay for back-channel logouts.
    pub async fn register(&self, redirect_port: u16, relay: &Relay) {
        let client = json!({
            "client_id": "postern", "name": "postern", "confidential": false, "enabled": true, "scope": [],
            "redirect_uri": [format!("http://127.0.0.1:{redirect_port}/callback")],
            "authorization_type": ["code", "refresh_token"], "token_endpoint_auth_method": ["none"],
            "backchannel_logout_uri": format!("http://{}/backchannel-logout", door(relay).await),
            "backchannel_logout_session_required": "true",
        });
        self.ask("POST", "client/", client).await;
    }

    /// A browser in which `ada` has signed in and agreed; its own pages are a program for a real browser.
    pub async fn browser(&self) -> Browser {
        let mut browser = Browser::of("ada");
        self.ask_as(&mut browser, "POST", "auth/", json!({"username": "ada", "password": PASSWORD})).await;
        self.ask_as(&mut browser, "PUT", "auth/grant/postern", json!({"scope": "openid"})).await;
        browser
    }

    /// Signs out of the session in which this browser signed in.
    pub async fn sign_out(&self, browser: &mut Browser) {
        let sid = browser.cookie(SESSION).expect("the cookie of a session");
        self.ask_as(browser, "DELETE", &format!("oidc/session/{sid}/"), json!({})).await;
    }

    async fn ask(&self, method: &str, path: &str, body: Value) {
        self.ask_as(&mut *self.admin.lock().await, method, path, body).await;
    }

    async fn ask_as(&self, browser: &mut Browser, method: &str, path: &str, body: Value) {
        let url = format!("http://{}/api/{path}", self.address).parse().unwrap();
        let reply: Reply = browser.send_json(method, &url, &body).await;
        assert_eq!(reply.status, 200, "{method} {path}: {reply:?}");
    }
}

fn config(address: SocketAddr, database: &str) -> String {
    let port = address.port();
    format!(
        r#"port={port} bind_address="127.0.0.1" external_url="http://127.0.0.1:{port}/" login_url="login.html"
api_prefix="api" log_mode="console" log_level="WARNING" cookie_secure=0 session_expiration=3600
session_key="GLEWLWYD2_SESSION_ID" admin_scope="g_admin" profile_scope="g_profile" hash_algorithm="SHA512"
user_module_path="/usr/lib/glewlwyd/user" client_module_path="/usr/lib/glewlwyd/client"
user_auth_scheme_module_path="/usr/lib/glewlwyd/scheme" plugin_module_path="/usr/lib/glewlwyd/plugin"
database = {{ type = "sqlite3"; path = "{database}"; }};
"#
    )
}

/// Glewlwyd trusts the system's authorities alone: a way to the relay's public listener without TLS, on loopback.
async fn door(relay: &Relay) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, to) = (listener.local_addr().unwrap(), relay.connector());
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = to.connect().await;
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    address
}
