//! One text from several registries: what a scrape gets.
//!
//! Shards have series of the same names. Those of one name become one family, as the format demands; where there are
//! several shards, each series says of which it is. With one shard the text is as if all were one registry's.

use std::collections::BTreeMap;

use prometheus::{
    Encoder, TextEncoder,
    proto::{LabelPair, MetricFamily},
};

use super::Error;
use crate::types::ShardId;

/// Media type of [`text`].
pub const TEXT_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The label that tells shards apart.
const SHARD: &str = "shard";

/// What one registry had at one moment. It can go from the core that counted to the one that is asked.
pub struct Families(pub(super) Vec<MetricFamily>);

/// The exposition in Prometheus' text format: `own` is the process's, the others are the shards'.
///
/// # Panics
/// If families of one name differ in kind or meaning, which is a mistake in this program.
pub fn text(own: Families, shards: Vec<(ShardId, Families)>) -> Result<Vec<u8>, Error> {
    let several = shards.len() > 1;
    let mut merged: BTreeMap<String, MetricFamily> = BTreeMap::new();
    let own = own.0.into_iter().map(|family| (None, family));
    let of_shards = shards.into_iter().flat_map(|(shard, families)| {
        let label = several.then(|| shard.to_string());
        families.0.into_iter().map(move |family| (label.clone(), family))
    });
    for (shard, mut family) in own.chain(of_shards) {
        if let Some(shard) = shard {
            tell_apart(&mut family, &shard);
        }
        match merged.get_mut(family.name()) {
            Some(known) => {
                let same = known.get_field_type() == family.get_field_type() && known.help() == family.help();
                assert!(same, "two meanings of {}", family.name());
                known.mut_metric().extend(family.take_metric());
            }
            None => drop(merged.insert(family.name().to_owned(), family)),
        }
    }
    let families = merged.into_values().collect::<Vec<_>>();
    let mut text = Vec::with_capacity(64 * 1024);
    TextEncoder::new().encode(&families, &mut text)?;
    Ok(text)
}

/// Labels stand in the order of their names.
fn tell_apart(family: &mut MetricFamily, shard: &str) {
    for metric in family.mut_metric() {
        let mut labels = metric.take_label();
        let mut own = LabelPair::default();
        own.set_name(SHARD.to_owned());
        own.set_value(shard.to_owned());
        labels.insert(labels.partition_point(|label| label.name() < SHARD), own);
        metric.set_label(labels);
    }
}
