//! bbolt database files: the container of etcd's backups, written in one forward pass and read where it lies.
//!
//! Owned by nobody: values come in, bytes come out, and the other way round; no I/O. What the buckets mean in etcd is
//! the matter of `backup`.
//!
//! ```text
//! page 0, 1   meta: magic, version, page size, root bucket, freelist, pages in all, transaction, checksum
//! page 2      freelist, empty
//! page 3 ...  small buckets too large to lie in the root, each a tree
//!             the large bucket, a tree
//!             the root bucket, a tree: bucket name -> bucket
//! ```
//!
//! A tree is written from left to right, a branch page right after the last of its children, so that only one open page
//! per level is in memory. The meta pages at the front name pages at the end: a first pass over the lengths alone
//! ([`Placer`]) computes them, and with them the size of the file.
//!
//! The reader takes no byte on trust: [`File::check`] holds for a file what bbolt's own `Check` holds, and rows are
//! checked again as they are read.

mod check;
mod format;
mod reader;
#[cfg(test)]
mod tests;
mod tree;
mod writer;

pub use format::PAGE_BYTES;
pub use reader::{Bucket, Error, File, Row, Rows};
pub use writer::{Error as WriteError, PIECE_BYTES, Placement, Placer, Small, Writer};
