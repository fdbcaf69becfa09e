//! The output formats of upstream's `etcdutl/etcdutl/printer*.go`.

use serde::Serialize;

use super::{BAD_FEATURE, Exit};
use crate::{
    backup::{FileStatus, HashedKeys},
    types::Size,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Simple,
    Fields,
    Json,
    Protobuf,
    Table,
}

impl Format {
    pub fn named(name: &str) -> Result<Self, Exit> {
        Ok(match name {
            "simple" => Self::Simple,
            "fields" => Self::Fields,
            "json" => Self::Json,
            "protobuf" => Self::Protobuf,
            "table" => Self::Table,
            _ => return Err(Exit { code: BAD_FEATURE, error: "unsupported output format".into() }),
        })
    }

    pub fn status(self, status: &FileStatus) -> Result<String, Exit> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Json<'a> {
            hash: u32,
            revision: i64,
            total_key: u64,
            total_size: u64,
            version: &'a str,
        }
        let FileStatus { hash, revision, total_keys, total_bytes, ref storage_version } = *status;
        let version = storage_version.as_deref().unwrap_or("");
        self.print(
            &Json { hash, revision, total_key: total_keys, total_size: total_bytes, version },
            &[
                ("Hash", hash.to_string()),
                ("Revision", revision.to_string()),
                ("Keys", total_keys.to_string()),
                ("Size", total_bytes.to_string()),
                ("Version", version.to_string()),
            ],
            &[
                ("hash", format!("{hash:x}")),
                ("revision", revision.to_string()),
                ("total keys", total_keys.to_string()),
                ("total size", Size(total_bytes).to_string()),
                ("version", version.to_string()),
            ],
        )
    }

    pub fn hash_kv(self, hashed: &HashedKeys) -> Result<String, Exit> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Json {
            hash: u32,
            hash_revision: i64,
            compact_revision: i64,
        }
        let HashedKeys { hash, revision, compacted } = *hashed;
        self.print(
            &Json { hash, hash_revision: revision, compact_revision: compacted },
            &[
                ("Hash", hash.to_string()),
                ("Hash revision", revision.to_string()),
                ("Compact revision", compacted.to_string()),
            ],
            &[
                ("hash", hash.to_string()),
                ("hash revision", revision.to_string()),
                ("compact revision", compacted.to_string()),
            ],
        )
    }

    fn print(self, json: &impl Serialize, fields: &[Cell], cells: &[Cell]) -> Result<String, Exit> {
        let unsupported =
            |name| Err(Exit { code: BAD_FEATURE, error: format!("{name} not supported as output format") });
        match self {
            Self::Simple => {
                let values: Vec<&str> = cells.iter().map(|(_, value)| value.as_str()).collect();
                Ok(format!("{}\n", values.join(", ")))
            }
            Self::Fields => {
                Ok(fields.iter().map(|(name, value)| format!("\"{name}\" : {value}\n")).collect())
            }
            Self::Json => Ok(format!("{}\n", serde_json::to_string(json).expect("plain fields"))),
            Self::Table => Ok(table(cells)),
            Self::Protobuf => unsupported("protobuf"),
        }
    }
}

type Cell = (&'static str, String);

/// One row under a heading, as `tablewriter` draws it.
fn table(cells: &[Cell]) -> String {
    let widths: Vec<usize> =
        cells.iter().map(|(name, value)| name.len().max(value.chars().count())).collect();
    let border = |left: &str, middle: &str, right: &str| {
        let lines: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", lines.join(middle))
    };
    let line = |texts: Vec<String>| format!("│{}│\n", texts.join("│"));
    let heading =
        cells.iter().zip(&widths).map(|((name, _), width)| format!(" {:^width$} ", name.to_uppercase()));
    let row = cells.iter().zip(&widths).map(|((_, value), width)| format!(" {value:>width$} "));
    [
        border("┌", "┬", "┐"),
        line(heading.collect()),
        border("├", "┼", "┤"),
        line(row.collect()),
        border("└", "┴", "┘"),
    ]
    .concat()
}
