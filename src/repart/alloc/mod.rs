//! Where partitions go and how large they become: the peer's algorithm, to the byte.
//!
//! New partitions are assigned to free areas first-fit by their least sizes. What is left of each
//! area is then shared by weight among its partitions and the one before it, within their bounds.
//! If not all of them fit, supplements come into their own, and those of the highest priority
//! value are given up.
//!
//! Pure and total: sums saturate. All sizes and offsets are bytes.

mod area;
mod fit;
mod grow;
mod place;

use std::ops::Range;

use uuid::Uuid;

use super::members::Limits;
use super::model::SizedBy;

/// Partitions that are there and partitions that are wanted.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Alignment, a power of two.
    pub grain: u64,
    /// What partitions may use, aligned.
    pub usable: Range<u64>,
    /// How many entries the table has.
    pub entries: u32,
    /// In list order; those that no definition knows come last, in the order of their numbers.
    pub members: Vec<Member>,
}

/// One partition of the problem.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its type, which new ones are numbered by.
    pub type_uuid: Uuid,
    /// Where it is; none for a new one.
    pub existing: Option<Extent>,
    /// No definition knows it.
    pub is_foreign: bool,
    /// Above 0 it may be given up.
    pub priority: i32,
    /// How large it may be.
    pub limits: Limits,
    /// Positions of those that are given up with it.
    pub siblings: Vec<usize>,
    /// Position of the one whose place it may leave to that one.
    pub supplement_for: Option<usize>,
}

/// An existing partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its number, from 1.
    pub number: u32,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub size: u64,
}

/// One partition of the solution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its number, from 1.
    pub number: u32,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub size: u64,
    /// What is free behind it.
    pub padding: u64,
    /// What was free behind it.
    pub old_padding: u64,
    /// What decided its size.
    pub sized_by: SizedBy,
    /// It is left as it is, because no definition knows it or its definition was given up.
    pub is_foreign: bool,
    /// Position of the supplement that it takes the place of.
    pub supplement: Option<usize>,
}

/// What had to be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A new partition is not made.
    Dropped(usize),
    /// An existing one keeps its size and is treated as foreign.
    Ignored(usize),
    /// A supplement is made after all.
    Unmerged {
        /// Its position.
        supplement: usize,
        /// Whose place it does not leave.
        target: usize,
    },
}

/// All partitions have a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solution {
    /// For each member; none for those that were dropped or that others take the place of.
    pub placed: Vec<Option<Placed>>,
    /// What the members need at least that were not given up.
    pub sum: Sum,
    /// What had to be given up, in order.
    pub events: Vec<Event>,
}

/// They do not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoFit {
    /// Why.
    pub reason: NoFitReason,
    /// What the members need at least that were not given up.
    pub sum: Sum,
    /// What had been given up before.
    pub events: Vec<Event>,
}

/// Why they do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoFitReason {
    /// No free area is large enough; the largest has so many bytes.
    Space(u64),
    /// The table has too few entries.
    Entries,
}

/// Least sizes with padding, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Of those that definitions ask for.
    pub wanted: u64,
    /// Of those that no definition knows.
    pub foreign: u64,
}

/// Solves a problem.
///
/// # Errors
///
/// Nothing more may be given up, and still they do not fit.
pub fn solve(problem: &Problem) -> Result<Solution, NoFit> {
    let mut state = fit::State::new(problem);
    let mut events = Vec::new();
    if let Err(largest) = state.fit(&mut events) {
        return Err(NoFit { reason: NoFitReason::Space(largest), sum: state.sum(), events });
    }
    grow::grow(&mut state);
    let sum = state.sum();
    match place::place(&state) {
        Some(placed) => Ok(Solution { placed, sum, events }),
        None => Err(NoFit { reason: NoFitReason::Entries, sum, events }),
    }
}

/// What all partitions need at least, before any is given up.
pub fn sum(problem: &Problem) -> Sum {
    fit::State::new(problem).sum()
}
