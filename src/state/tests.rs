mod list;
mod model;
mod properties;
mod quirks;
