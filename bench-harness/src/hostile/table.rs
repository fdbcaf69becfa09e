//! The attacks.

use super::calls::Call;
use super::floods::Flood;
use super::scrapes::Scrape;
use super::silent::{At, Silent};
use super::streams::{Streams, What};
use super::{Attack, How, Lasts, Stored};

/// Connections that say nothing: more than a server needs for its clients, fewer than a usual hard limit allows us.
const SILENT: usize = 3_000;
/// Open files of the server that is to run out of them.
const FEW_DESCRIPTORS: u64 = 1_024;

/// What all have in common unless they say otherwise.
const HELD: Attack = Attack {
    name: "",
    sends: "",
    stored: Stored::Few,
    spoils: false,
    lasts: Lasts::Held,
    descriptors: None,
    usual: false,
    how: How::Silent(Silent { at: At::Nothing, connections: SILENT, puts: false }),
};

const fn silent(at: At) -> How {
    How::Silent(Silent { at, connections: SILENT, puts: false })
}

const fn streams(what: What, count: usize, connections: usize, read: bool) -> How {
    How::Streams(Streams { what, count, connections, read })
}

/// By what they need stored, so that one server is filled for as many as possible; those that spoil it last.
pub static ATTACKS: &[Attack] = &[
    Attack {
        name: "silent",
        sends: "3,000 connections without a byte",
        usual: true,
        how: silent(At::Nothing),
        ..HELD
    },
    Attack {
        name: "half-preface",
        sends: "3,000 connections with 10 bytes",
        how: silent(At::Preface),
        ..HELD
    },
    Attack {
        name: "bare-preface",
        sends: "3,000 connections with a preface",
        how: silent(At::Settings),
        ..HELD
    },
    Attack {
        name: "open-headers",
        sends: "3,000 connections with HEADERS that do not end",
        how: silent(At::Headers),
        ..HELD
    },
    Attack {
        name: "stopped-body",
        sends: "3,000 connections with half a Put",
        usual: true,
        how: silent(At::Body),
        ..HELD
    },
    Attack {
        name: "unfinished-puts",
        sends: "1,000 Puts of 1.5 MB on 10 connections, the last byte of each missing",
        usual: true,
        how: streams(What::UnfinishedPut { bytes: 1_500_000 }, 1_000, 10, false),
        ..HELD
    },
    Attack { name: "pings", sends: "PING without end", usual: true, how: How::Flood(Flood::Pings), ..HELD },
    Attack { name: "settings", sends: "SETTINGS without end", how: How::Flood(Flood::Settings), ..HELD },
    Attack {
        name: "windows-5000",
        sends: "SETTINGS that change the window of 5,000 open streams, without end",
        usual: true,
        how: How::Flood(Flood::Windows { streams: 5_000 }),
        ..HELD
    },
    Attack {
        name: "windows-60000",
        sends: "SETTINGS that change the window of 60,000 open streams, without end",
        how: How::Flood(Flood::Windows { streams: 60_000 }),
        ..HELD
    },
    Attack {
        name: "resets",
        sends: "whole Puts that are reset at once, on 2 connections",
        usual: true,
        how: How::Flood(Flood::Resets { connections: 2 }),
        ..HELD
    },
    Attack {
        name: "scrapes",
        sends: "1,000 GET /metrics at once on one HTTP/2 connection",
        usual: true,
        how: How::Scrape(Scrape::Streams(1_000)),
        ..HELD
    },
    Attack {
        name: "pipelined-scrapes",
        sends: "GET /metrics without waiting, on 4 HTTP/1.1 connections",
        how: How::Scrape(Scrape::Pipelined { connections: 4 }),
        ..HELD
    },
    Attack {
        name: "descriptors",
        sends: "2,000 connections without a byte to a server with 1,024 descriptors, then 94 MB of Puts",
        usual: true,
        descriptors: Some(FEW_DESCRIPTORS),
        how: How::Silent(Silent { at: At::Nothing, connections: 2_000, puts: true }),
        ..HELD
    },
    Attack {
        name: "sorted-ranges",
        sends: "1,000 Ranges at once, limit 1, sorted by value",
        stored: Stored::Many,
        usual: true,
        how: streams(What::Sorted, 1_000, 1, true),
        ..HELD
    },
    Attack {
        name: "range-streams",
        sends: "3,000 RangeStreams whose window is zero",
        stored: Stored::Many,
        usual: true,
        how: streams(What::RangeStream, 3_000, 1, false),
        ..HELD
    },
    Attack {
        name: "unread-txns",
        sends: "30 Txns of one whole range that nobody reads",
        stored: Stored::Many,
        how: streams(What::Txn { ranges: 1 }, 30, 1, false),
        ..HELD
    },
    Attack {
        name: "read-txn",
        sends: "a Txn of 10 whole ranges",
        stored: Stored::Many,
        lasts: Lasts::Once,
        how: How::Call(Call::Ranges { count: 10, writes: false }),
        ..HELD
    },
    Attack {
        name: "compares-3200",
        sends: "a Txn of 3,200 compares over everything and a put",
        stored: Stored::Many,
        spoils: true,
        lasts: Lasts::Once,
        usual: true,
        how: How::Call(Call::Compares(&[40, 80])),
        ..HELD
    },
    Attack {
        name: "poison",
        sends: "a Txn of 127 whole ranges and a put",
        stored: Stored::Many,
        spoils: true,
        lasts: Lasts::Once,
        usual: true,
        how: How::Call(Call::Ranges { count: 127, writes: true }),
        ..HELD
    },
    Attack {
        name: "delete-all",
        sends: "a DeleteRange of everything with prev_kv",
        stored: Stored::Many,
        spoils: true,
        lasts: Lasts::Once,
        usual: true,
        how: How::Call(Call::DeleteAll),
        ..HELD
    },
    Attack {
        name: "compares-135000",
        sends: "a Txn of 135,000 compares over everything and a put",
        stored: Stored::More,
        spoils: true,
        lasts: Lasts::Once,
        how: How::Call(Call::Compares(&[10, 20, 25, 27])),
        ..HELD
    },
    Attack {
        name: "zipped-ranges",
        sends: "20 whole ranges, compressed",
        stored: Stored::Long,
        how: streams(What::Zipped, 20, 1, true),
        ..HELD
    },
    Attack {
        name: "unread-wide-txn",
        sends: "a Txn of 100 whole ranges that nobody reads",
        stored: Stored::Long,
        how: streams(What::Txn { ranges: 100 }, 1, 1, false),
        ..HELD
    },
];

pub fn attack(name: &str) -> Option<&'static Attack> {
    ATTACKS.iter().find(|attack| attack.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attack_has_a_name_of_its_own_and_says_what_it_is() {
        for (index, one) in ATTACKS.iter().enumerate() {
            assert!(!one.name.is_empty() && !one.sends.is_empty());
            assert!(ATTACKS[..index].iter().all(|other| other.name != one.name), "{} twice", one.name);
            assert!(attack(one.name).is_some_and(|found| std::ptr::eq(found, one)));
        }
    }
}
