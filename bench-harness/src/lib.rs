//! What Pinion is measured and compared with: servers as child processes, their metrics, and load.
//!
//! | module       | what lives there                                                         |
//! |--------------|--------------------------------------------------------------------------|
//! | `oracle`     | where `tests/oracle/build` put the upstream programs                     |
//! | `process`    | one server as a child process: start, readiness, signals, CPU and memory |
//! | `http`       | one blocking HTTP/1.1 GET, for `/health` and `/metrics`                  |
//! | `prom`       | reading `/metrics`: histograms, quantiles, differences                   |
//! | `load`       | the load generator                                                       |
//! | `watchers`   | many watches: what came, and how late                                    |
//! | `admin`      | an operator's calls: compaction, defragmentation, snapshot                  |
//! | `compare`    | Pinion beside upstream etcd: runs, medians, ratios, tables, a plot       |
//! | `hostile`    | what a client that means harm can send                                   |
//! | `kubernetes` | what kube-apiserver asks, as a load that checks what it sees          |
//! | `leases`     | leases as a load: granted, kept alive, and how late they end             |
//! | `flamegraph` | a server under load, recorded with perf and drawn                        |
//! | `requests`   | a queue of requests as the stream of a call                              |
//! | `pb`         | the wire messages and tonic clients                                      |

pub mod admin;
pub mod compare;
pub mod flamegraph;
pub mod hostile;
pub mod http;
pub mod kubernetes;
pub mod leases;
pub mod load;
pub mod oracle;
pub mod pb;
pub mod process;
pub mod prom;
mod requests;
pub mod watchers;
