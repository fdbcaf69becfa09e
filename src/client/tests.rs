use std::{
    future::Future,
    task::{Context, Poll, Waker},
};

use super::*;

const BOUNDS: Bounds = Bounds { total: 1_000, each: 400 };

fn is_revoked(claim: &Claim) -> bool {
    matches!(claim.poll_revoked(&mut Context::from_waker(Waker::noop())), Poll::Ready(Revoked))
}

fn claimed(client: &Client, bytes: usize) -> Claim {
    let mut claim = client.claim();
    assert_eq!(claim.set(bytes), Ok(()), "there is room");
    claim
}

#[test]
fn a_client_over_its_bound_pays_with_what_it_began_last() {
    let clients = Clients::new(BOUNDS);
    let client = clients.client();
    let mut claims: Vec<_> = (0..4).map(|_| claimed(&client, 100)).collect();
    let mut fifth = client.claim();
    assert_eq!(fifth.set(1), Err(Revoked), "it is the youngest");
    assert_eq!(claims[1].set(150), Ok(()));
    assert!(is_revoked(&claims[3]) && !is_revoked(&claims[2]));
    assert_eq!(claims[3].set(1), Err(Revoked), "once and for all");
    assert_eq!((client.used(), clients.used()), (350, 350));
    // The oldest goes on, so that something comes to its end.
    assert_eq!(claims[0].set(700), Ok(()));
    assert_eq!(clients.used(), 700 + 250);
    assert_eq!(claims[0].set(900), Ok(()));
    assert!(is_revoked(&claims[1]) && is_revoked(&claims[2]), "there is no more for all");
    assert_eq!(clients.used(), 900);
}

#[test]
fn whoever_holds_the_most_makes_room_for_others() {
    let clients = Clients::new(BOUNDS);
    let (greedy, other, modest) = (clients.client(), clients.client(), clients.client());
    let mut of_greedy: Vec<_> = (0..4).map(|_| claimed(&greedy, 100)).collect();
    let of_other: Vec<_> = (0..3).map(|_| claimed(&other, 130)).collect();
    let mut of_modest = claimed(&modest, 210);
    assert_eq!(clients.used(), 1_000);
    of_modest.set(350).unwrap();
    assert!(is_revoked(&of_greedy[3]) && is_revoked(&of_other[2]), "who has the most beside its first");
    assert_eq!(of_greedy.iter().chain(&of_other).filter(|claim| is_revoked(claim)).count(), 2);
    assert_eq!(clients.used(), 300 + 260 + 350);
    // It is the largest by now, but it has only the one, and others do not go on at its cost.
    of_modest.set(460).unwrap();
    assert!(is_revoked(&of_greedy[2]));
    assert_eq!(clients.used(), 200 + 260 + 460);
    of_greedy[0].set(200).unwrap();
    assert!(!is_revoked(&of_modest) && is_revoked(&of_other[1]));
    assert_eq!(of_modest.set(1_001), Err(Revoked), "more than there is");
    drop((of_greedy, of_other, of_modest));
    assert_eq!((clients.used(), clients.0.holders.get()), (0, 0));
    assert!(clients.0.claimants.borrow().is_empty());
}

#[test]
fn a_claim_may_become_a_charge_or_nothing() {
    let clients = Clients::new(BOUNDS);
    let client = clients.client();
    let mut claim = claimed(&client, 300);
    claim.set(0).unwrap();
    assert_eq!(client.used(), 0);
    claim.set(200).unwrap();
    let charge = claim.settle();
    assert_eq!(client.used(), 200);
    let other = claimed(&clients.client(), 800);
    assert!(client.claim().set(1).is_ok() && is_revoked(&other), "what was settled is not taken back");
    drop(charge);
    assert_eq!(clients.used(), 0);
}

#[test]
fn each_has_its_part_where_much_is_held() {
    let clients = Clients::new(BOUNDS);
    let (one, two, idle) = (clients.client(), clients.client(), clients.client());
    let charges = (one.charge(400), two.owe(100));
    assert!(one.has_room() && two.has_room());
    let more = one.charge(1);
    assert!(!one.has_room(), "over its own bound");
    drop(more);
    let more = two.charge(50);
    assert!(!one.has_room() && two.has_room() && idle.has_room(), "half of all is shared by two");
    assert_eq!((two.used(), two.unsent()), (150, 100));
    drop((charges, more));
    assert!(one.has_room());
    assert_eq!((clients.used(), two.unsent(), clients.0.holders.get()), (0, 0, 0));
}

#[test]
fn an_answer_waits_until_others_were_taken() {
    let client = Clients::new(BOUNDS).client();
    let owed = client.owe(401);
    let mut context = Context::from_waker(Waker::noop());
    let mut taken = Box::pin(client.taken());
    assert!(taken.as_mut().poll(&mut context).is_pending());
    drop(owed);
    assert!(taken.as_mut().poll(&mut context).is_ready());
}

#[test]
fn claims_never_pass_the_bound_whatever_clients_do() {
    let clients = Clients::new(BOUNDS);
    let all: Vec<_> = (0..7).map(|_| clients.client()).collect();
    let mut live: Vec<Claim> = Vec::new();
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    for _ in 0..20_000 {
        match next(10) {
            0..3 => live.push(all[next(all.len())].claim()),
            3..8 if !live.is_empty() => {
                let at = next(live.len());
                if live[at].set(next(300)).is_err() {
                    live.remove(at);
                }
            }
            _ if !live.is_empty() => drop(live.remove(next(live.len()))),
            _ => {}
        }
        assert!(clients.used() <= BOUNDS.total, "{} bytes claimed", clients.used());
        assert_eq!(all.iter().map(Client::used).sum::<usize>(), clients.used());
    }
    live.clear();
    assert_eq!((clients.used(), clients.0.holders.get()), (0, 0));
}
