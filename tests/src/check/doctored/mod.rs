//! The checker, checked: a good history passes, and each doctored one is found out by the promise that it breaks.

mod fixture;
mod stored;
mod told;
