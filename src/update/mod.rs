//! The updater: transfers from versioned sources to versioned targets.

pub mod definitions;
pub mod discover;
pub mod engine;
pub mod job;
pub mod model;
pub mod plan;
pub mod sets;
pub mod web;
