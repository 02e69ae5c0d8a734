//! What the tests of the desktop have around them.

use postern_tests::{App, Browser, Desktop, Provider, Relay, Settings, Upstream, Window, World, secrets};
use serde_json::json;
use std::net::SocketAddr;

/// The vault is for its keepers, payroll wants a hardware key.
const POLICY: &str = r#"@id("staff")
permit(principal in Group::"staff", action, resource);

@id("vault-closed")
@reason("The vault is for its keepers only.")
@fix("Ask security@corp.example to make you a keeper.")
forbid(principal, action, resource in AppGroup::"vault") unless { principal in Group::"keepers" };

@id("payroll-strong")
@reason("Payroll wants a sign-in with a hardware key.")
@acr_values("phr")
forbid(principal, action, resource == App::"payroll") unless { context has acr && context.acr == "phr" };
"#;

/// A person's desk, where nothing runs yet, and an organisation with the apps `wiki`, `payroll` and `vault`.
pub(crate) struct Office {
    pub(crate) desktop: Desktop,
    pub(crate) relay: Relay,
    pub(crate) provider: Provider,
    pub(crate) wiki: Upstream,
    _closed: [Upstream; 2],
    pub(crate) world: World,
}

impl Office {
    pub(crate) async fn open() -> Self {
        let world = World::new();
        let provider = Provider::start_with(&world, json!({ "classes": { "ada": ["phr"] } })).await;
        // As many apps do: to a place of their own choice.
        let elsewhere = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/elsewhere\r\ncontent-length: 0\r\n\r\n";
        let wiki = Upstream::http(move |seen| match seen.target.as_str() {
            "/away" => elsewhere.into(),
            _ => postern_tests::upstream::ok("the wiki"),
        })
        .await;
        let (payroll, vault) = (Upstream::plain().await, Upstream::plain().await);
        let settings = Settings::new(&provider.issuer)
            .app(App::http("wiki", wiki.address))
            .app(App::http("payroll", payroll.address))
            .app(App::http("vault", vault.address).denied());
        let relay = Relay::start(&world, settings.policy(POLICY)).await;
        let desktop = Desktop::new(&world).await;
        desktop.trusts(&relay);
        Self { desktop, relay, provider, wiki, _closed: [payroll, vault], world }
    }

    /// Starts the agent and signs `ada` in without the window.
    pub(crate) async fn sign_in_by_command(&self) {
        let address = self.relay.address();
        let login = ["login", &address];
        let visit = async {
            let page = Browser::of("ada").sign_in(&self.desktop.opened(1).await).await;
            assert!(page.reply.status.is_success(), "{page:?}");
        };
        tokio::join!(self.desktop.postern(&login), visit).0.ok();
    }

    pub(crate) fn window(&self) -> &Window {
        self.desktop.window()
    }

    /// Where an app is reached here, and the authority it has there.
    pub(crate) async fn place_of(&self, app: &str) -> (SocketAddr, String) {
        let address = self.desktop.address(app).await;
        (address, format!("{app}.localhost:{}", address.port()))
    }

    /// A19: no secret is in the window, in the program's processes, in what it opened, logged and wrote.
    pub(crate) async fn nothing_is_secret(&self) {
        let refresh = self.provider.refresh_token("ada").await;
        let canaries = [refresh.as_str()];
        let shown = self.window().run("return document.documentElement.outerHTML").await.to_string();
        assert_eq!(secrets::secrets_in(shown.as_bytes(), &canaries), [""; 0], "in the window");
        for process in self.desktop.processes() {
            for file in ["cmdline", "environ"] {
                let bytes = std::fs::read(format!("/proc/{}/{file}", process.id)).unwrap_or_default();
                assert_eq!(secrets::secrets_in(&bytes, &canaries), [""; 0], "in {file} of {}", process.name);
            }
        }
        let opened = self.desktop.all_opened().join("\n");
        assert_eq!(secrets::secrets_in(opened.as_bytes(), &canaries), [""; 0], "in what was opened");
        for directory in [self.world.path("home"), self.world.logs()] {
            assert_eq!(secrets::find(&directory, &canaries), [""; 0], "in {}", directory.display());
        }
    }
}
