//! What the user of `top` has chosen to see. Pure.

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listing {
    Services,
    Servers,
    Nodes,
    Drains,
    Events,
}

impl Listing {
    pub(super) const ALL: [Listing; 5] =
        [Listing::Services, Listing::Servers, Listing::Nodes, Listing::Drains, Listing::Events];

    pub(super) fn name(self) -> &'static str {
        match self {
            Listing::Services => "Services",
            Listing::Servers => "Real servers",
            Listing::Nodes => "Nodes",
            Listing::Drains => "Drains",
            Listing::Events => "Events",
        }
    }

    pub(super) fn beside(self, forward: bool) -> Listing {
        let count = Listing::ALL.len();
        let at = Listing::ALL.iter().position(|listing| *listing == self).unwrap_or(0);
        let step = if forward { 1 } else { count - 1 };
        Listing::ALL[(at + step) % count]
    }
}

/// By what services and real servers are sorted; what is most comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SortBy {
    Name,
    Active,
    Rate,
    Bytes,
    Weight,
}

impl SortBy {
    pub(super) fn name(self) -> &'static str {
        match self {
            SortBy::Name => "name",
            SortBy::Active => "connections",
            SortBy::Rate => "connections a second",
            SortBy::Bytes => "bytes a second",
            SortBy::Weight => "weight",
        }
    }

    pub(super) fn next(self) -> SortBy {
        match self {
            SortBy::Name => SortBy::Active,
            SortBy::Active => SortBy::Rate,
            SortBy::Rate => SortBy::Bytes,
            SortBy::Bytes => SortBy::Weight,
            SortBy::Weight => SortBy::Name,
        }
    }
}

/// Of what the real servers are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Within {
    Service(String),
    Node(u32),
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) listing: Listing,
    pub(super) within: Option<Within>,
    pub(super) sort: SortBy,
    /// Only rows that contain this, in capitals or not.
    pub(super) filter: String,
}

impl Default for Choice {
    fn default() -> Choice {
        Choice {
            listing: Listing::Services,
            within: None,
            sort: SortBy::Name,
            filter: String::new(),
        }
    }
}
