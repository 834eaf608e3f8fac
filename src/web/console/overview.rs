//! How all does: the hooks, and how far profiles come.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::State;
use axum::response::Response;

use super::super::AppState;
use super::super::extract::Params;
use super::super::hooks::{self, Health};
use super::super::problem::Problem;
use super::super::summary::{self, FunnelView, TimesView};
use super::session::Session;
use super::shell::{Shell, When, grouped, lasting, page};
use super::words;

/// How many days of profiles are counted by default.
const DAYS: i64 = 28;

#[derive(Template)]
#[template(path = "console/hooks.html")]
struct HooksPage {
    shell: Shell,
    hooks: Vec<HookRow>,
    servers: Vec<hooks::SmdpView>,
}

struct HookRow {
    hook: String,
    provider: &'static str,
    is_ill: bool,
    is_used: bool,
    health: &'static str,
    advice: &'static str,
    accepted: String,
    refused: String,
    usual: String,
    last_accepted: Option<When>,
    last_refused: Option<When>,
    last_refusal: String,
}

impl From<hooks::HookView> for HookRow {
    fn from(hook: hooks::HookView) -> Self {
        let (health, advice) = match hook.health {
            Health::Well => ("As usual", ""),
            Health::Unused => ("Unused", ""),
            Health::Silent => {
                ("Silent", "None comes, and many usually come at this hour: ask the provider.")
            }
            Health::Refusing => {
                ("Refusing", "Most are refused: was a secret changed on one side only?")
            }
        };
        Self {
            hook: hook.hook,
            provider: hook.provider,
            is_ill: matches!(hook.health, Health::Silent | Health::Refusing),
            is_used: !matches!(hook.health, Health::Unused),
            health,
            advice,
            accepted: grouped(hook.accepted),
            refused: grouped(hook.refused),
            usual: hook.usual.map_or("–".to_owned(), |usual| format!("{usual:.0}")),
            last_accepted: hook.last_accepted_at.map(When::from),
            last_refused: hook.last_refused_at.map(When::from),
            last_refusal: hook.last_refusal.map(|word| words::refusal(&word)).unwrap_or_default(),
        }
    }
}

/// `GET /console/hooks`.
pub(super) async fn hooks(
    State(app): State<AppState>,
    session: Session,
) -> Result<Response, Problem> {
    let found = hooks::read(&app).await?;
    let mut hooks: Vec<_> = found.items.into_iter().map(HookRow::from).collect();
    // First what somebody has to look at, and last what nobody uses.
    hooks.sort_by_key(|hook| (!hook.is_ill, !hook.is_used));
    page(&HooksPage { shell: Shell::of(&app, &session, "/hooks"), hooks, servers: found.smdp })
}

#[derive(Template)]
#[template(path = "console/funnel.html")]
struct FunnelPage {
    shell: Shell,
    days: i64,
    providers: Vec<Provider>,
    times: Vec<InstallTimes>,
}

struct Provider {
    slug: String,
    bars: Vec<Bar>,
}

struct Bar {
    title: &'static str,
    profiles: String,
    percent: i64,
}

struct InstallTimes {
    day: String,
    provider: String,
    half: String,
    nine_of_ten: String,
}

/// `GET /console/funnel?days=`.
pub(super) async fn funnel(
    State(app): State<AppState>,
    session: Session,
    mut params: Params,
) -> Result<Response, Problem> {
    let days = summary::take_days(&mut params)?.unwrap_or(DAYS);
    params.finish()?;
    let found = summary::read_funnel(&app, days, session.received_at).await?;
    let mut by_provider: BTreeMap<&str, [i64; 7]> = BTreeMap::new();
    for day in &found {
        let sum = by_provider.entry(&day.provider).or_default();
        for (sum, n) in sum.iter_mut().zip(reached(day)) {
            *sum += n;
        }
    }
    let provider = |(slug, sums): (&&str, &[i64; 7])| Provider {
        slug: (*slug).to_owned(),
        bars: STEPS.into_iter().zip(sums).map(|(title, n)| bar(title, *n, sums[0])).collect(),
    };
    let providers = by_provider.iter().map(provider).collect();
    let times = found.iter().rev().filter_map(|day| {
        let TimesView { p50, p90 } = day.seconds_to_install.as_ref()?;
        let (day, provider) = (day.day.clone(), day.provider.clone());
        Some(InstallTimes { day, provider, half: lasting(*p50), nine_of_ten: lasting(*p90) })
    });
    let times = times.collect();
    let shell = Shell::of(&app, &session, "/funnel");
    page(&FunnelPage { shell, days, providers, times })
}

const STEPS: [&str; 7] = [
    "Ready",
    "Page opened",
    "Link tapped",
    "QR code shown",
    "Downloaded",
    "Installed",
    "Connected",
];

fn reached(day: &FunnelView) -> [i64; 7] {
    let FunnelView {
        ready, opened, link_tapped, qr_shown, downloaded, installed, connected, ..
    } = day;
    [ready, opened, link_tapped, qr_shown, downloaded, installed, connected].map(|n| *n)
}

fn bar(title: &'static str, profiles: i64, of: i64) -> Bar {
    let percent = (profiles * 100).checked_div(of).unwrap_or_default().clamp(0, 100);
    Bar { title, profiles: grouped(profiles), percent }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_has_its_share() {
        assert_eq!(
            [bar("", 1, 3), bar("", 0, 0), bar("", 5, 4)].map(|it| it.percent),
            [33, 0, 100]
        );
    }
}
