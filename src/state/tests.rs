mod any;
mod list;
mod model;
mod outcome;
mod plan;
mod properties;
mod quirks;
