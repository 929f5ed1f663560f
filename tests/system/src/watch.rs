//! Looking at who maps what, from outside, while a system runs.

use anyhow::{Context as _, Result, bail, ensure};
use inspect::{Anchor, Figures, Findings, NotRam, Place, Ram};
use qemu_machine::{Memory, Probe};
use std::ops::Range;

/// Root task, memory server, balancer, console and timer each have one.
const LEAST_SPACES: usize = 5;
/// The code and stacks of those are more than this many pages.
const LEAST_LEAVES: usize = 200;
/// Complaints that are repeated to whoever asked; one broken rule can be broken in every page.
const MOST_PROBLEMS: usize = 8;

/// The machine's memory as the inspection reads it.
struct Standing<'a>(&'a Memory);

impl Ram for Standing<'_> {
    fn range(&self) -> Range<u64> {
        self.0.range()
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), NotRam> {
        let bytes = into.len();
        self.0.read(at, into).map_err(|_| NotRam { at, bytes })
    }
}

/// What all looks together have seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How often was looked.
    pub looks: u64,
    /// The looks at which at least two guests had memory.
    pub with_guests: u64,
    /// Translation tables walked.
    pub tables: u64,
    /// Mapped frames seen.
    pub leaves: u64,
    /// Pieces seen mapped by guests.
    pub guest_pieces: u64,
    /// Pieces of the pool read and found zero.
    pub zero_pieces: u64,
    /// The most of each at one look.
    pub most: Figures,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} looks, {} of them at two guests and more: {} tables, {} frames, {} pieces of guests, {} pieces of the pool; \
             at most at once {} guests, {} tables, {} frames",
            self.looks,
            self.with_guests,
            self.tables,
            self.leaves,
            self.guest_pieces,
            self.zero_pieces,
            self.most.guests,
            self.most.tables,
            self.most.leaves
        )
    }
}

impl Tally {
    fn add(&mut self, figures: &Figures) {
        self.looks += 1;
        self.with_guests += u64::from(figures.guests >= 2 && figures.guest_pieces >= 2);
        self.tables += figures.tables as u64;
        self.leaves += figures.leaves as u64;
        self.guest_pieces += figures.guest_pieces as u64;
        self.zero_pieces += figures.zero_pieces as u64;
        self.most.guests = self.most.guests.max(figures.guests);
        self.most.tables = self.most.tables.max(figures.tables);
        self.most.leaves = self.most.leaves.max(figures.leaves);
    }
}

/// Somebody who looks.
#[derive(Debug)]
pub struct Watch {
    probe: Probe,
    place: Option<Place>,
    tally: Tally,
}

impl Watch {
    /// Nothing has been looked at yet.
    #[must_use]
    pub fn new(probe: Probe) -> Self {
        Self {
            probe,
            place: None,
            tally: Tally::default(),
        }
    }

    /// What has been seen so far.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Looks once. None while the system is still being built: no kernel, or no memory server with a ledger.
    ///
    /// # Errors
    /// Every rule that does not hold; and when what was seen is too little to mean anything.
    pub fn look(&mut self) -> Result<Option<Figures>> {
        let Some(findings) = self.look_as(inspect::look)? else {
            return Ok(None);
        };
        let Findings { figures, problems } = findings;
        if !problems.is_empty() {
            let all = problems.len();
            let some: Vec<String> = problems.into_iter().take(MOST_PROBLEMS).collect();
            bail!("{all} rules of memory are broken: {}", some.join("; "));
        }
        if figures.ledger_pieces == 0 {
            return Ok(None);
        }
        ensure!(
            figures.spaces >= LEAST_SPACES && figures.leaves >= LEAST_LEAVES,
            "too little was seen: {figures}"
        );
        self.tally.add(&figures);
        Ok(Some(figures))
    }

    /// What the given function finds. None while no kernel runs.
    ///
    /// # Errors
    /// When the machine cannot be stopped, or something in it leads to where there is no memory.
    pub fn look_as(
        &mut self,
        how: impl FnOnce(&dyn Ram, &Anchor) -> Result<Findings, NotRam>,
    ) -> Result<Option<Findings>> {
        let known = &mut self.place;
        let seen = self.probe.frozen(|memory| {
            let ram = Standing(memory);
            if known.is_none() {
                *known = Place::find(&ram)?;
            }
            let anchor = match known {
                Some(place) => place.anchor(&ram)?,
                None => None,
            };
            anchor.map(|anchor| how(&ram, &anchor)).transpose()
        });
        Ok(seen.context("the machine cannot be looked at")??)
    }
}
