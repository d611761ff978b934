//! Services run within this process, as `pushmesh up` does.

use pushmesh_boot::{BootError, Context, Control, FieldError, Service, ServiceConfig, Settings, Shutdown, run};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::{SOON, mesh};

#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Nothing {}

impl ServiceConfig for Nothing {
    fn validate(&self) -> Result<(), FieldError> {
        Ok(())
    }
}

macro_rules! services {
    ($($name:ident = $text:literal),*) => {$(
        struct $name;
        impl Service for $name {
            const NAME: &'static str = $text;
            const ABOUT: &'static str = "nothing";
            type Config = Nothing;
            async fn start(ctx: Context, _: Nothing) -> anyhow::Result<Self> {
                assert_eq!(ctx.mesh.partitions.count(), 8);
                assert_eq!(ctx.service.as_str(), Self::NAME);
                Ok(Self)
            }
            async fn drain(self) {}
        }
    )*};
}
services!(One = "one", Two = "two");

fn settings(url: &str) -> Settings<Nothing> {
    let mut settings = Settings::<Nothing>::default();
    settings.nats.url = url.to_owned();
    settings.nats.connect_wait = SOON;
    settings.admin.listen = "127.0.0.1:0".parse().unwrap();
    settings
}

#[tokio::test(flavor = "multi_thread")]
async fn several_services_share_a_process() {
    let nats = mesh().await;
    let shutdown = Shutdown::new();
    let (one_ready, one) = oneshot::channel();
    let (two_ready, two) = oneshot::channel();
    let control = |ready| Control { shutdown: shutdown.clone(), ready: Some(ready), ..Control::default() };
    let running = [
        tokio::spawn(run::<One>(settings(&nats.url()), control(one_ready))),
        tokio::spawn(run::<Two>(settings(&nats.url()), control(two_ready))),
    ];
    let doors = tokio::time::timeout(SOON, async { (one.await.unwrap(), two.await.unwrap()) }).await.unwrap();
    assert_ne!(doors.0["admin"], doors.1["admin"]);
    let ready = reqwest::get(format!("http://{}/readyz", doors.0["admin"])).await.unwrap();
    assert_eq!(ready.status(), 200);

    shutdown.drain.cancel();
    for ended in running {
        tokio::time::timeout(SOON, ended).await.unwrap().unwrap().unwrap();
    }
}

#[tokio::test]
async fn bad_settings_are_refused_here_too() {
    let mut bad = settings("nats://127.0.0.1:1");
    bad.mesh.weight = 0;
    let refused = run::<One>(bad, Control::default()).await.unwrap_err();
    assert!(matches!(refused, BootError::Config(_)), "{refused}");
    assert_eq!(refused.exit_code(), 78);
}
