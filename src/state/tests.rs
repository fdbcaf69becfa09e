pub(super) mod any;
mod list;
mod model;
mod nesting;
mod outcome;
mod plan;
mod properties;
mod quirks;
mod steps;
