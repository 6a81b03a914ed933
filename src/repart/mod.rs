//! Partition planning and creation: `repart.d` definitions in, a partitioned disk or image out.
//!
//! | Module | Job |
//! |---|---|
//! | [`alloc`] | where partitions go and how large they become |
//! | [`apply`] | makes what was planned, contents first and the table last |
//! | [`candidates`] | disks that partitions can be made on |
//! | [`contents`] | what goes into a file system |
//! | [`definitions`] | from files to definitions |
//! | [`eltorito`] | what lets an image boot from a CD as well |
//! | [`fstab`] | fstab and crypttab for what was made |
//! | [`identity`] | UUIDs, labels and attribute bits |
//! | [`initrd`] | which system an initrd works on |
//! | [`members`] | which definition an existing partition belongs to |
//! | [`minimise`] | contents that are made first, to know how small they are |
//! | [`model`] | what definitions and options say, and the plan |
//! | [`planner`] | all of the above: from definitions and a table to a plan or a refusal |
//! | [`report`] | what people and programs are told |
//! | [`run`] | all of it in order |
//! | [`service`] | `io.systemd.Repart` |
//! | [`sources`] | what is copied block by block |
//! | [`split`] | each partition as a file of its own |
//! | [`target`] | what is partitioned: found, opened, locked, its table read |
//!
//! A run plans first: definitions, the target's table and the sizes of what is copied go in, and a
//! [`model::Plan`] comes out, which the report shows and `apply` carries out. Until `apply` begins
//! nothing but a new, empty image file has come into being.
//!
//! Documents: systemd-repart(8) and repart.d(5) of systemd 262.

pub mod alloc;
pub mod apply;
pub mod candidates;
pub mod contents;
pub mod definitions;
pub mod eltorito;
pub mod fstab;
pub mod identity;
pub mod initrd;
pub mod members;
pub mod minimise;
pub mod model;
pub mod planner;
pub mod report;
pub mod run;
pub mod service;
pub mod sources;
pub mod split;
pub mod target;
