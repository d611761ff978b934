//! Configuration in layers: defaults, file, environment, flags; secrets by path
