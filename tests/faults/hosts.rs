//! Hosts for members on one machine: network namespaces behind a bridge, whose links can be cut one way.

use std::{
    cell::RefCell,
    net::Ipv4Addr,
    process::{Command, id},
};

/// Nobody has this address: what is sent there is lost.
const NOWHERE: &str = "02:00:00:00:00:01";

/// Gone when dropped.
pub struct Hosts {
    bridge: String,
    names: Vec<String>,
    cut: RefCell<Vec<(usize, usize)>>,
}

fn ip(line: &str) {
    let output = Command::new("ip").args(line.split_whitespace()).output();
    let output = output.unwrap_or_else(|error| panic!("ip (Debian's iproute2) is needed: {error}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {line}: {told} (hosts for members are made by root)");
}

impl Hosts {
    /// Names and addresses are this process's.
    pub fn new(count: usize) -> Self {
        let name = format!("p{}", id() % 1_000_000);
        let bridge = format!("{name}br");
        let hosts = Self {
            names: (0..count).map(|n| format!("{name}n{n}")).collect(),
            cut: RefCell::default(),
            bridge,
        };
        let bridge = &hosts.bridge;
        ip(&format!("link add {bridge} type bridge"));
        ip(&format!("addr add {}/24 dev {bridge}", Self::at(254)));
        ip(&format!("link set {bridge} up"));
        for (n, host) in hosts.names.iter().enumerate() {
            ip(&format!("netns add {host}"));
            ip(&format!("link add {name}v{n} type veth peer name eth0 netns {host}"));
            ip(&format!("link set {name}v{n} master {bridge} up"));
            ip(&format!("-n {host} addr add {}/24 dev eth0", hosts.address(n)));
            ip(&format!("-n {host} link set eth0 up"));
            ip(&format!("-n {host} link set lo up"));
        }
        hosts
    }

    fn at(last: u8) -> Ipv4Addr {
        let [_, _, high, low] = id().to_be_bytes();
        Ipv4Addr::new(10, 64 + high % 64, low, last)
    }

    pub fn name(&self, n: usize) -> &str {
        &self.names[n]
    }

    pub fn address(&self, n: usize) -> Ipv4Addr {
        Self::at(u8::try_from(n + 1).expect("few hosts"))
    }

    /// What one sends to the other is lost; what comes from there is not.
    pub fn cut(&self, from: usize, to: usize) {
        let address = self.address(to);
        ip(&format!(
            "-n {} neigh replace {address} lladdr {NOWHERE} dev eth0 nud permanent",
            self.names[from]
        ));
        self.cut.borrow_mut().push((from, to));
    }

    pub fn heal(&self) {
        for (from, to) in self.cut.take() {
            ip(&format!("-n {} neigh del {} dev eth0", self.names[from], self.address(to)));
        }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        // Links go with the ends they have in them.
        for line in self.names.iter().map(|host| format!("netns del {host}")) {
            ip_quietly(&line);
        }
        ip_quietly(&format!("link del {}", self.bridge));
    }
}

/// A panic while another one unwinds would hide that.
fn ip_quietly(line: &str) {
    match Command::new("ip").args(line.split_whitespace()).status() {
        Ok(status) if status.success() => {}
        outcome => eprintln!("ip {line}: {outcome:?}"),
    }
}
