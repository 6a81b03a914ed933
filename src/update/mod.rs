//! The updater: transfers from versioned sources to versioned targets.

pub mod definitions;
pub mod discover;
pub mod engine;
pub mod installdb;
pub mod job;
pub mod model;
pub mod plan;
pub mod reboot;
pub mod report;
pub mod run;
pub mod service;
pub mod session;
pub mod sets;
pub mod web;
