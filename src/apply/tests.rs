mod model;
mod properties;
