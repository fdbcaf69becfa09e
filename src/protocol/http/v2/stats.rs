//! `/v2/stats/{self,leader,store}`, field by field in etcd's order.

use std::{fmt::Write, time::Duration};

use bytes::Bytes;
use http::{Method, Response, StatusCode, request::Parts};

use super::{members::refused, only, time};
use crate::{
    metrics::Trips,
    protocol::http::{JSON, not_found, ok},
    service::{
        Api,
        v2::stats::{self, Own},
    },
};

/// `rest` follows `/v2/stats` in the path.
pub(super) fn endpoint(api: &Api, head: &Parts, rest: &[u8]) -> Response<Bytes> {
    let body: fn(&Api) -> Option<String> = match rest {
        b"/self" => own,
        b"/leader" => leader,
        b"/store" => store,
        _ => return not_found(),
    };
    if let Some(refusal) = only(&head.method, &[Method::GET]) {
        return refusal;
    }
    match body(api) {
        Some(body) => ok(JSON, body),
        None => refused(StatusCode::FORBIDDEN, "not current leader"),
    }
}

fn own(api: &Api) -> Option<String> {
    let Own { name, id, is_leader, started, leader, now, appends } = stats::own(api);
    let state = if is_leader { "StateLeader" } else { "StateFollower" };
    let (leader, uptime, since) = match leader {
        Some((leader, since)) => (format!("{leader:x}"), now.saturating_sub(since), moment(since)),
        None => (String::new(), Duration::ZERO, "0001-01-01T00:00:00Z".to_owned()),
    };
    let (name, started, uptime) = (serde_json::Value::from(name), moment(started), duration(uptime));
    let (received, sent) = appends;
    Some(format!(
        "{{\"name\":{name},\"id\":\"{id:x}\",\"state\":\"{state}\",\"startTime\":\"{started}\",\"leaderInfo\":{{\
         \"leader\":\"{leader}\",\"uptime\":\"{uptime}\",\"startTime\":\"{since}\"}},\
         \"recvAppendRequestCnt\":{received},\"sendAppendRequestCnt\":{sent}}}"
    ))
}

fn leader(api: &Api) -> Option<String> {
    let (leader, followers) = stats::followers(api)?;
    let of = |(id, trips): &(u64, Trips)| {
        let Trips { current, minimum, maximum, count, failed, .. } = *trips;
        let (average, deviation) = (trips.average(), trips.standard_deviation());
        format!(
            "\"{id:x}\":{{\"latency\":{{\"current\":{current},\"average\":{average},\"standardDeviation\":{deviation},\
             \"minimum\":{minimum},\"maximum\":{maximum}}},\"counts\":{{\"fail\":{failed},\"success\":{count}}}}}"
        )
    };
    let mut followers: Vec<_> = followers.iter().map(of).collect();
    followers.sort();
    Some(format!("{{\"leader\":\"{leader:x}\",\"followers\":{{{}}}}}", followers.join(",")))
}

fn store(api: &Api) -> Option<String> {
    let (counts, gets, watchers) = stats::tree(api);
    let mut body = String::from("{");
    for (done, refused, [successes, failures]) in [
        ("getsSuccess", "getsFail", gets),
        ("setsSuccess", "setsFail", counts.sets),
        ("deleteSuccess", "deleteFail", counts.deletes),
        ("updateSuccess", "updateFail", counts.updates),
        ("createSuccess", "createFail", counts.creates),
        ("compareAndSwapSuccess", "compareAndSwapFail", counts.swaps),
        ("compareAndDeleteSuccess", "compareAndDeleteFail", counts.compared_deletes),
    ] {
        write!(body, "\"{done}\":{successes},\"{refused}\":{failures},").expect("into memory");
    }
    write!(body, "\"expireCount\":{},\"watchers\":{watchers}}}", counts.expired).expect("into memory");
    Some(body)
}

fn moment(since: Duration) -> String {
    let mut text = Vec::new();
    time::write(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX), &mut text);
    String::from_utf8(text).expect("digits")
}

/// As Go writes one: `1h2m3.5s`, and below a second in the unit that fits.
fn duration(length: Duration) -> String {
    let nanos = length.as_nanos();
    let decimals = |number: u128, of: u128| {
        let digits = format!("{:0width$}", number % of, width = of.ilog10() as usize);
        let digits = digits.trim_end_matches('0');
        let point = if digits.is_empty() { "" } else { "." };
        format!("{}{point}{digits}", number / of)
    };
    match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", decimals(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimals(nanos, 1_000_000)),
        _ => {
            let seconds = length.as_secs();
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let rest = decimals(nanos % 60_000_000_000, 1_000_000_000);
            match (hours, minutes) {
                (0, 0) => format!("{rest}s"),
                (0, minutes) => format!("{minutes}m{rest}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_by_go() {
        for (nanos, text) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (2_000_000, "2ms"),
            (1_339_243_350, "1.33924335s"),
            (60_000_000_000, "1m0s"),
            (3_723_500_000_000, "1h2m3.5s"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), text);
        }
    }
}
