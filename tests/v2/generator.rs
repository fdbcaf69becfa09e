//! Draws calls from a seed: few paths that collide often, every parameter, and values that make no sense now and then.
//!
//! Times are long, so that none ends meanwhile; what is listed is sorted, since etcd's order is none otherwise.

use super::http::Request;
use crate::seeded::Rng;

pub struct Generator(Rng);

const NAMES: [&str; 9] = ["a", "b", "c", "_h", "a-", "%C3%A4", "a.b", "d%20e", "f"];
const VALUES: [&str; 8] = ["", "x", "y", "%3C%26", "a+b", "%00", "longer+than+the+others", "1"];

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self(Rng::new(seed))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound as u64) as usize
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn of<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn path(&mut self) -> String {
        let depth = [0, 1, 1, 1, 2, 2, 2, 3, 4][self.below(9)];
        let mut path = String::from("/v2/keys");
        for _ in 0..depth {
            path += "/";
            path += self.of(&NAMES);
        }
        if self.one_in(12) {
            path += "/";
        }
        path
    }

    fn flag(&mut self) -> &'static str {
        match self.below(40) {
            0 => self.of(&["", "yes", "TRUE", "F", "0"]),
            1..=25 => "true",
            _ => "false",
        }
    }

    fn number(&mut self) -> String {
        match self.below(30) {
            0 => self
                .of(&["", "x", "-1", "1.5", "18446744073709551615", "18446744073709551616", "007"])
                .to_owned(),
            1..=4 => "0".to_owned(),
            _ => (4 + self.below(60)).to_string(),
        }
    }

    pub fn next(&mut self) -> Request {
        let method = ["GET", "GET", "GET", "PUT", "PUT", "PUT", "PUT", "POST", "DELETE", "DELETE", "HEAD"]
            [self.below(11)];
        let path = self.path();
        let mut pairs: Vec<String> = Vec::new();
        let is_write = matches!(method, "PUT" | "POST");
        if is_write && !self.one_in(6) {
            pairs.push(format!("value={}", self.of(&VALUES)));
        }
        if is_write && self.one_in(4) {
            let ttl = match self.below(12) {
                0 => self.of(&["", "x", "-3"]),
                _ => self.of(&["1000", "5000", "100000"]),
            };
            pairs.push(format!("ttl={ttl}"));
        }
        if matches!(method, "PUT" | "DELETE") && self.one_in(4) {
            pairs.push(format!("prevValue={}", self.of(&VALUES)));
        }
        if matches!(method, "PUT" | "DELETE") && self.one_in(6) {
            pairs.push(format!("prevIndex={}", self.number()));
        }
        if method == "PUT" && self.one_in(4) {
            pairs.push(format!("prevExist={}", self.flag()));
        }
        if method == "PUT" && self.one_in(8) {
            pairs.push(format!("refresh={}", self.flag()));
        }
        if is_write && self.one_in(10) {
            pairs.push(format!("noValueOnSuccess={}", self.flag()));
        }
        if method != "GET" && self.one_in(3) {
            pairs.push(format!("dir={}", self.flag()));
        }
        if self.one_in(3) {
            pairs.push(format!("recursive={}", self.flag()));
        }
        if self.one_in(5) {
            pairs.push(format!("quorum={}", self.flag()));
        }
        let mut query = Vec::new();
        let mut body = Vec::new();
        for pair in pairs {
            if is_write && !self.one_in(3) { body.push(pair) } else { query.push(pair) }
        }
        if method == "GET" {
            query.push("sorted=true".to_owned());
        }
        let target = if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) };
        let bare = Request::parse(&format!("{method} {target}"));
        let body = (is_write && !(body.is_empty() && self.one_in(2))).then(|| body.join("&"));
        Request { body, ..bare }
    }
}
