mod model;
mod properties;
mod quirks;
