mod any;
mod list;
mod model;
mod outcome;
mod properties;
mod quirks;
