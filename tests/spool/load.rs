//! Helper: senders of numbered deliveries, and the comparison of their answers with the database.
//!
//! Each sender reports on one profile and waits for each answer, so that the order of arrival is known.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use esim_status_testing::{Database, TestApp};
use reqwest::Client;
use serde_json::{Value, json};
use sqlx::Row;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::iccid;

/// The states that numbered deliveries report, in turn.
const STATES: [&str; 3] = ["RELEASED", "INSTALLED", "DISABLED"];

/// One in 25 deliveries is malformed.
const MALFORMED: usize = 25;

/// A delivery and its answer.
#[derive(Debug)]
pub struct Sent {
    /// `None` if there was no answer.
    pub status: Option<u16>,
    /// The delivery id in the answer.
    pub id: Option<Uuid>,
    pub took: Duration,
    pub at: Instant,
}

/// Running senders.
pub struct Load {
    stopping: CancellationToken,
    senders: JoinSet<Vec<Sent>>,
}

impl Load {
    /// Starts one sender for each profile, with a pause after each answer. Calls `address` before each delivery.
    pub fn start(
        profiles: usize,
        pause: Duration,
        address: impl Fn() -> String + Send + Sync + 'static,
    ) -> Self {
        let (stopping, mut senders) = (CancellationToken::new(), JoinSet::new());
        let address = Arc::new(address);
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(20));
        let client = client.tls_certs_only([]).build().expect("a client can be created");
        for profile in 0..profiles {
            let (stopping, address, client) = (stopping.clone(), address.clone(), client.clone());
            senders.spawn(async move {
                let mut sent = Vec::new();
                while !stopping.is_cancelled() {
                    let url = format!("{}{}", address(), TestApp::hook_path());
                    let body = body(profile, sent.len());
                    let answer = send(&client, &url, body).await;
                    let again = !matches!(answer.status, Some(200 | 202 | 400));
                    sent.push(answer);
                    tokio::time::sleep(if again { Duration::from_millis(25) } else { pause }).await;
                }
                sent
            });
        }
        Self { stopping, senders }
    }

    /// Stops the senders and returns everything that was sent.
    pub async fn stop(self) -> Vec<Sent> {
        self.stopping.cancel();
        self.senders.join_all().await.into_iter().flatten().collect()
    }
}

fn body(profile: usize, number: usize) -> String {
    if number % MALFORMED == MALFORMED - 1 {
        return format!(r#"{{"number":{number},"#);
    }
    let state = STATES[number % STATES.len()];
    json!({ "iccid": iccid(profile), "profileState": state, "number": number }).to_string()
}

async fn send(client: &Client, url: &str, body: String) -> Sent {
    let at = Instant::now();
    let answer = async {
        let response = client.post(url).body(body).send().await?;
        let status = response.status().as_u16();
        Ok::<_, reqwest::Error>((status, response.text().await?))
    };
    let answer = answer.await.ok();
    let took = at.elapsed();
    let Some((status, text)) = answer else { return Sent { status: None, id: None, took, at } };
    let document: Value = serde_json::from_str(&text).unwrap();
    let id = document["deliveryId"].as_str().map(|id| id.parse().unwrap());
    match status {
        200 => assert!(["moved", "repeated"].contains(&document["outcome"].as_str().unwrap())),
        202 => assert_eq!(document["outcome"], "spooled"),
        400 => assert_eq!(document["code"], "malformed"),
        503 => assert_eq!(document["code"], "unavailable"),
        _ => panic!("{status} {text}"),
    }
    assert_eq!(id.is_some(), [200, 202, 400].contains(&status), "{status} {text}");
    Sent { status: Some(status), id, took, at }
}

/// How often each status was answered; 0 stands for no answer.
pub fn statuses(sent: &[Sent]) -> BTreeMap<u16, usize> {
    let mut statuses = BTreeMap::new();
    for sent in sent {
        *statuses.entry(sent.status.unwrap_or(0)).or_default() += 1;
    }
    statuses
}

/// How many acknowledged deliveries are not in the database.
pub async fn missing(database: &Database, sent: &[Sent]) -> usize {
    let ids: Vec<_> = sent.iter().filter_map(|sent| sent.id).collect();
    let query = "SELECT count(*) FROM UNNEST($1::uuid[]) AS u (id)
                 WHERE NOT EXISTS (SELECT FROM deliveries d WHERE d.id = u.id)";
    let mut connection = database.connect().await;
    let missing = sqlx::query_scalar::<_, i64>(query).bind(ids).fetch_one(&mut connection).await;
    usize::try_from(missing.unwrap()).unwrap()
}

/// Asserts that every delivery was applied once, and that those of each profile were applied in the order in which they
/// were sent.
pub async fn assert_straight(database: &Database, profiles: usize) {
    let mut connection = database.connect().await;
    let query = "SELECT iccid, id, body FROM deliveries WHERE iccid = ANY($1)";
    let mut numbers: HashMap<String, BTreeMap<usize, Uuid>> = HashMap::new();
    let iccids: Vec<_> = (0..profiles).map(iccid).collect();
    for row in sqlx::query(query).bind(iccids).fetch_all(&mut connection).await.unwrap() {
        let document: Value = serde_json::from_slice(row.get("body")).unwrap();
        let number = usize::try_from(document["number"].as_u64().unwrap()).unwrap();
        let earlier = numbers.entry(row.get("iccid")).or_default().insert(number, row.get("id"));
        assert_eq!(earlier, None, "{document} is stored twice");
    }
    let query = "SELECT seq, from_state, to_state, delivery_id FROM transitions
                 WHERE iccid = $1 ORDER BY seq";
    for profile in 0..profiles {
        let iccid = iccid(profile);
        // The expected history follows from the stored deliveries, in the order in which they were sent.
        let (mut expected, mut state) = (Vec::new(), None);
        for (number, id) in numbers.remove(&iccid).unwrap_or_default() {
            let next = Some(STATES[number % STATES.len()].to_owned());
            if next != state {
                let seq = i64::try_from(expected.len()).unwrap() + 1;
                expected.push((seq, state, next.clone(), Some(id)));
                state = next;
            }
        }
        let found = sqlx::query_as::<_, (i64, Option<String>, Option<String>, Option<Uuid>)>(query)
            .bind(&iccid)
            .fetch_all(&mut connection)
            .await
            .unwrap();
        assert_eq!(found, expected, "{iccid}");
        let query = "SELECT state FROM profiles WHERE iccid = $1";
        let found = sqlx::query_scalar(query).bind(&iccid).fetch_optional(&mut connection).await;
        assert_eq!(found.unwrap(), state, "{iccid}");
    }
}
