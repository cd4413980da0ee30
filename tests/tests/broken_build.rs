//! The checker, checked on real processes: a build that is broken on purpose must be found out, each by the check that is
//! there for it.
//!
//! `PARLANCE_BROKEN_BIN` names a program built with the feature `unsafe-test-switches`; without it there is nothing
//! to test, and the tests say so and are skipped; in CI they fail.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use parlance_tests::chaos::{self, ChaosSpec};
use parlance_tests::cluster::binary;
use parlance_tests::faults::Fault;

/// A switch, a fault that brings it out, and who must notice.
struct Broken {
    switch: &'static str,
    /// Where it is on; everywhere if no process is named.
    process: Option<&'static str>,
    fault: Fault,
    check: &'static str,
    /// Who may notice, too: what is broken is seen from more than one side.
    also: &'static [&'static str],
}

impl Broken {
    async fn is_found_out(&self) -> Result<()> {
        let Some(binary) = binary::needed_with_switches()? else {
            return Ok(());
        };
        let mut spec = ChaosSpec::new(601, Duration::from_secs(5), vec![self.fault]);
        spec.cluster.binary = Some(binary);
        let on = (self.switch.to_owned(), "1".to_owned());
        match self.process {
            None => spec.cluster.environment.push(on),
            Some(process) => spec.cluster.environment_of.push((process.to_owned(), on)),
        }
        let report = chaos::run(&spec).await?;
        let found = report.violations.iter();
        let found: BTreeSet<&str> = found.map(|violation| violation.promise.as_str()).collect();
        ensure!(
            found.contains(self.check),
            "{} was not found out by the check {:?}:\n{report}",
            self.switch,
            self.check
        );
        let expected = |check: &&str| *check == self.check || self.also.contains(check);
        let others: Vec<&str> = found.into_iter().filter(|check| !expected(check)).collect();
        ensure!(
            others.is_empty(),
            "{} was found out by {others:?}, which have nothing to do with it:\n{report}",
            self.switch
        );
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_acknowledges_what_it_forgets_is_found_out() -> Result<()> {
    let broken = Broken {
        switch: "PARLANCE_TEST_UNSAFE_FORGET_MESSAGES",
        process: None,
        fault: Fault::None,
        check: "durable",
        // Who sent the one event of a quiet conversation has seen it.
        also: &["seen"],
    };
    broken.is_found_out().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_changes_what_it_reads_is_found_out() -> Result<()> {
    let broken = Broken {
        switch: "PARLANCE_TEST_UNSAFE_CHANGE_PAGES",
        process: None,
        fault: Fault::None,
        check: "seen",
        also: &[],
    };
    broken.is_found_out().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_without_dedup_is_found_out() -> Result<()> {
    let broken = Broken {
        switch: "PARLANCE_TEST_UNSAFE_NO_DEDUP",
        process: None,
        fault: Fault::Retries,
        check: "once",
        also: &["ordered"],
    };
    broken.is_found_out().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_whose_leaders_do_not_prove_that_they_lead_is_found_out() -> Result<()> {
    let broken = Broken {
        switch: "PARLANCE_TEST_UNSAFE_NO_READ_BARRIER",
        process: None,
        fault: Fault::FreezeLeader,
        check: "fresh",
        also: &[],
    };
    broken.is_found_out().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_loses_every_tenth_push_is_found_out() -> Result<()> {
    let broken = Broken {
        switch: "PARLANCE_TEST_UNSAFE_DROP_PUSHES",
        process: None,
        fault: Fault::None,
        check: "pushed",
        also: &["delivered"],
    };
    broken.is_found_out().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_never_tells_some_users_is_found_out() -> Result<()> {
    let broken = Broken {
        switch: "PARLANCE_TEST_UNSAFE_FORGET_USERS",
        process: None,
        fault: Fault::None,
        check: "delivered",
        also: &["pushed", "unread", "fresh"],
    };
    broken.is_found_out().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_swaps_messages_is_found_out() -> Result<()> {
    let broken = Broken {
        switch: "PARLANCE_TEST_UNSAFE_SWAP_MESSAGES",
        process: None,
        fault: Fault::FreezeLeader,
        check: "ordered",
        also: &[],
    };
    broken.is_found_out().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_refuses_what_it_stores_is_found_out() -> Result<()> {
    let broken = Broken {
        switch: "PARLANCE_TEST_UNSAFE_REFUSE_STORED",
        process: None,
        fault: Fault::None,
        check: "refused",
        // Who sent it is told so in place of the event.
        also: &["delivered"],
    };
    broken.is_found_out().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_skips_entries_is_found_out() -> Result<()> {
    let broken = Broken {
        switch: "PARLANCE_TEST_UNSAFE_SKIP_ENTRIES",
        process: Some("node-2"),
        fault: Fault::None,
        check: "replicas",
        // Where that node leads, it answers with what it has.
        also: &[
            "durable",
            "seen",
            "ordered",
            "once",
            "fresh",
            "delivered",
            "pushed",
            "unread",
            "refused",
        ],
    };
    broken.is_found_out().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_counts_one_unread_too_many_is_found_out() -> Result<()> {
    let broken = Broken {
        switch: "PARLANCE_TEST_UNSAFE_UNREAD_OFF_BY_ONE",
        process: None,
        fault: Fault::None,
        check: "unread",
        also: &[],
    };
    broken.is_found_out().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_whose_read_cursors_go_back_is_found_out() -> Result<()> {
    let broken = Broken {
        switch: "PARLANCE_TEST_UNSAFE_CURSORS_GO_BACK",
        process: None,
        fault: Fault::None,
        check: "fresh",
        also: &["durable"],
    };
    broken.is_found_out().await
}
