//! The jobs that wait for a transaction: which of them share the next one, and which get one of their own.
//!
//! Jobs that depend on each other do not run at the same time, and go in the order of their arrival. A job with an object
//! on which another one has just waited for a lock goes alone: it may wait, too, and a group must not.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::Id;
use tokio::time::Instant;

use super::connect::TIMEOUT;
use super::jobs::{Job, JobResult};
use super::mutations::Target;
use crate::store::StoreError;

/// Maximum jobs in one transaction: enough to share the commit, few enough that the first does not wait for long.
const MAX_JOBS: usize = 256;

/// Size from which on a group takes no further job.
const MAX_BYTES: usize = 4 << 20;

/// Maximum jobs in the channel; further callers wait for space in it.
const CAPACITY: usize = 1024;

/// Maximum jobs that wait for another one while independent ones overtake them.
const MAX_DEPENDENTS: usize = 1024;

/// Duration of the work of a transaction that indicates that it waited for a lock.
const LOCK_WAIT: Duration = Duration::from_millis(100);

/// Time for which jobs with an object that was waited for go alone.
const CONTENTION: Duration = Duration::from_secs(5);

/// A job with its caller, who may have stopped waiting.
pub(super) struct QueuedJob {
    pub(super) job: Arc<Job>,
    targets: Arc<JobTargets>,
    caller: oneshot::Sender<Result<JobResult, StoreError>>,
    since: Instant,
}

impl QueuedJob {
    /// Returns the job, and what its caller waits for.
    pub(super) fn new(job: Job) -> (Self, oneshot::Receiver<Result<JobResult, StoreError>>) {
        let (caller, answer) = oneshot::channel();
        let targets = Arc::new(JobTargets::of(&job));
        (Self { job: Arc::new(job), targets, caller, since: Instant::now() }, answer)
    }

    /// Returns what the queue keeps of the job while it runs.
    pub(super) fn running(&self) -> RunningJob {
        RunningJob { job: Arc::clone(&self.job), targets: Arc::clone(&self.targets) }
    }

    pub(super) fn answer(self, result: Result<JobResult, StoreError>) {
        drop(self.caller.send(result));
    }
}

/// The hashes of a job's objects. Two jobs whose hashes are equal by chance only wait for each other.
struct JobTargets {
    /// Objects that no two jobs of a group have.
    own: Vec<u64>,
    /// Chains of audit entries, which the jobs of a group share.
    chains: Vec<u64>,
}

impl JobTargets {
    fn of(job: &Job) -> Self {
        let hash = |target: Target<'_>| {
            let mut hasher = DefaultHasher::new();
            target.hash(&mut hasher);
            hasher.finish()
        };
        let affects_others = |target: &Target<'_>| !matches!(target, Target::Own(_));
        let own = job.targets().into_iter().filter(affects_others).map(hash).collect();
        let chains: HashSet<Target<'_>> = job.chains().collect();
        Self { own, chains: chains.into_iter().map(hash).collect() }
    }

    fn all(&self) -> impl Iterator<Item = &u64> {
        self.own.iter().chain(&self.chains)
    }

    /// Returns the objects that others must wait for while the job runs alone: a chain only if it has nothing else to wait
    /// for, because a chain is locked last.
    fn awaited(&self) -> impl Iterator<Item = &u64> {
        self.own.iter().chain(self.chains.iter().filter(|_| self.own.is_empty()))
    }
}

/// A job that runs alone.
pub(super) struct RunningJob {
    job: Arc<Job>,
    targets: Arc<JobTargets>,
}

/// The jobs to run next.
#[derive(Default)]
pub(super) struct ChosenJobs {
    pub(super) group: Vec<QueuedJob>,
    /// Each in a transaction of its own.
    pub(super) alone: Vec<QueuedJob>,
}

/// The queue of the jobs that wait for their transaction.
pub(super) struct JobQueue {
    channel: mpsc::Receiver<QueuedJob>,
    is_closed: bool,
    /// In the order of arrival.
    waiting: VecDeque<QueuedJob>,
    /// Number of waiting jobs that depend on another one: they do not keep others out of the queue.
    dependents: usize,
    /// The jobs that run alone, by the ids of their tasks.
    alone: HashMap<Id, RunningJob>,
    /// The hashes of objects that were waited for, each with the time until which it counts.
    contended: HashMap<u64, Instant>,
}

impl JobQueue {
    /// Creates the queue, and what jobs are sent to it by; it is closed when that is dropped.
    pub(super) fn new() -> (mpsc::Sender<QueuedJob>, Self) {
        let (jobs, channel) = mpsc::channel(CAPACITY);
        let (waiting, alone, contended) = Default::default();
        (jobs, Self { channel, is_closed: false, waiting, dependents: 0, alone, contended })
    }

    /// Waits for a job to arrive, or for the queue to be closed.
    pub(super) async fn arrival(&mut self) {
        match self.channel.recv().await {
            Some(job) => self.waiting.push_back(job),
            None => self.is_closed = true,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns when the first job will have waited for too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|first| first.since + TIMEOUT)
    }

    /// Lets other tasks run as long as that brings more jobs: woken by the first one, the committer would otherwise commit
    /// each alone while others are about to arrive. On an idle machine this costs one check of the queue.
    pub(super) async fn gather(&mut self) {
        let mut before = 0;
        while before < self.waiting.len() {
            before = self.waiting.len();
            tokio::task::yield_now().await;
            self.fill();
        }
    }

    /// Returns whether further jobs have to wait in the channel.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_JOBS + self.dependents.min(MAX_DEPENDENTS)
    }

    fn fill(&mut self) {
        while !self.is_full()
            && let Ok(job) = self.channel.try_recv()
        {
            self.waiting.push_back(job);
        }
    }

    /// Refuses the jobs that have waited for too long; nothing of them has begun.
    pub(super) fn refuse_late(&mut self) {
        while let Some(late) = self.waiting.pop_front_if(|first| first.since.elapsed() >= TIMEOUT) {
            late.answer(Err(busy()));
        }
    }

    /// Refuses every job with this error.
    pub(super) fn refuse_all(&mut self, error: &StoreError) {
        self.waiting.extend(std::iter::from_fn(|| self.channel.try_recv().ok()));
        self.waiting.drain(..).for_each(|job| job.answer(Err(error.clone())));
    }

    /// Takes out the jobs that may run now: those that depend neither on an earlier one nor on one that runs alone.
    pub(super) fn choose(&mut self) -> ChosenJobs {
        let now = Instant::now();
        let mut taken: HashSet<u64> =
            self.alone.values().flat_map(|running| running.targets.awaited()).copied().collect();
        let (mut chosen, mut left) = (ChosenJobs::default(), VecDeque::new());
        let (mut bytes, mut is_full) = (0_usize, false);
        self.dependents = 0;
        for queued in self.waiting.drain(..) {
            let targets = &queued.targets;
            let is_dependent = targets.all().any(|target| taken.contains(target));
            let is_contended = |target: &u64| self.contended.get(target).is_some_and(|until| now < *until);
            if !is_dependent && targets.all().any(is_contended) {
                taken.extend(targets.awaited());
                chosen.alone.push(queued);
                continue;
            }
            taken.extend(&targets.own);
            self.dependents += usize::from(is_dependent);
            let has_space = !is_full && (chosen.group.is_empty() || !queued.job.is_probe());
            if is_dependent || !has_space {
                left.push_back(queued);
                continue;
            }
            bytes = bytes.saturating_add(queued.job.bytes());
            // What a full disk refuses to a probe, a smaller job may still get.
            is_full = bytes >= MAX_BYTES || chosen.group.len() + 1 >= MAX_JOBS || queued.job.is_probe();
            chosen.group.push(queued);
        }
        self.waiting = left;
        chosen
    }

    /// Records that the job runs alone, in the task with this id.
    pub(super) fn record_start(&mut self, task: Id, running: RunningJob) {
        self.alone.insert(task, running);
    }

    /// Records that the job in this task has ended, with the duration of its work. Returns the job.
    pub(super) fn record_end(&mut self, task: Id, worked: Duration) -> Option<Arc<Job>> {
        let RunningJob { job, targets } = self.alone.remove(&task)?;
        if worked >= LOCK_WAIT {
            let now = Instant::now();
            self.contended.retain(|_, until| now < *until);
            self.contended.extend(targets.all().map(|target| (*target, now + CONTENTION)));
        }
        Some(job)
    }
}

/// Returns the error of a job that has waited for too long.
pub(super) fn busy() -> StoreError {
    StoreError::Unavailable("too many concurrent transactions".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::audit::Entry;
    use crate::domain::candidate::Identity;
    use crate::domain::ids::CandidateId;
    use crate::store::codec::EncodedMutation;
    use crate::store::sql::{self, Statement, values};

    fn lock(form: u8) -> Job {
        Job::AcquireLocks(vec![[form; 32]], 0)
    }

    /// Returns the acquisition of another lock for each number.
    fn lock_of(number: u16) -> Job {
        let mut form = [0; 32];
        form[..2].copy_from_slice(&number.to_be_bytes());
        Job::AcquireLocks(vec![form], 0)
    }

    fn send(channel: &mpsc::Sender<QueuedJob>, jobs: impl IntoIterator<Item = Job>) {
        jobs.into_iter().for_each(|job| channel.try_send(QueuedJob::new(job).0).unwrap());
    }

    /// Returns a queue with these jobs in it, and its channel.
    fn queue(jobs: impl IntoIterator<Item = Job>) -> (mpsc::Sender<QueuedJob>, JobQueue) {
        let (channel, mut queue) = JobQueue::new();
        send(&channel, jobs);
        queue.fill();
        (channel, queue)
    }

    fn sizes(queue: &mut JobQueue) -> (usize, usize, usize) {
        let chosen = queue.choose();
        (chosen.group.len(), chosen.alone.len(), queue.waiting.len())
    }

    #[test]
    fn the_users_of_one_object_keep_no_other_job_out_of_the_next_group() {
        let (_channel, mut queue) = queue((0..300).map(|_| lock(1)).chain([lock(2)]));
        assert_eq!(sizes(&mut queue), (1, 0, 255));
        queue.fill();
        assert_eq!(sizes(&mut queue), (2, 0, 298));
    }

    #[tokio::test]
    async fn jobs_with_an_object_that_was_waited_for_go_alone_one_after_the_other() {
        let (channel, mut queue) = queue([lock(1)]);
        let first = queue.choose().group.pop().unwrap();
        let task = tokio::spawn(async {}).id();
        queue.record_start(task, first.running());
        send(&channel, [lock(1), lock(1), lock(2)]);
        queue.fill();
        assert_eq!(sizes(&mut queue), (1, 0, 2), "one runs");
        queue.record_end(task, LOCK_WAIT);
        assert_eq!(sizes(&mut queue), (0, 1, 1));
        queue.contended.clear();
        assert_eq!(sizes(&mut queue), (1, 0, 0));
    }

    #[tokio::test]
    async fn a_job_that_did_not_wait_leaves_its_objects_to_the_groups() {
        let (_channel, mut queue) = queue([lock(1), lock(1)]);
        let first = queue.choose().group.pop().unwrap();
        let task = tokio::spawn(async {}).id();
        queue.record_start(task, first.running());
        assert_eq!(sizes(&mut queue), (0, 0, 1));
        queue.record_end(task, Duration::ZERO);
        assert_eq!(sizes(&mut queue), (1, 0, 0));
    }

    #[tokio::test]
    async fn groups_share_a_chain_of_audit_entries_unless_it_was_waited_for() {
        let append = || Job::Commit(vec![EncodedMutation::Audit(Entry::example("t", "request"))]);
        let (channel, mut queue) = queue([append(), append()]);
        let mut chosen = queue.choose();
        assert_eq!(chosen.group.len(), 2);
        let task = tokio::spawn(async {}).id();
        queue.record_start(task, chosen.group.pop().unwrap().running());
        queue.record_end(task, LOCK_WAIT);
        send(&channel, [append(), append(), lock(1)]);
        queue.fill();
        assert_eq!(sizes(&mut queue), (1, 1, 1));
    }

    #[test]
    fn others_wait_for_a_chain_only_if_the_job_has_nothing_else_to_wait_for() {
        let awaited = |own, chains| JobTargets { own, chains }.awaited().copied().collect::<Vec<_>>();
        assert_eq!(awaited(vec![1], vec![2]), [1]);
        assert_eq!(awaited(Vec::new(), vec![2]), [2]);
    }

    #[test]
    fn the_queue_is_full_when_the_next_group_is() {
        let (_channel, mut queue) = queue((0..300).map(lock_of));
        assert!(queue.is_full());
        assert_eq!(sizes(&mut queue).0, MAX_JOBS);
        assert!(!queue.is_full());
    }

    #[test]
    fn a_probe_shares_its_transaction_with_no_other_job() {
        let (_channel, mut queue) = queue([Job::Probe, lock(1), Job::Probe, lock(2)]);
        for expected in [(1, 0, 3), (2, 0, 1), (1, 0, 0)] {
            assert_eq!(sizes(&mut queue), expected);
        }
    }

    #[test]
    fn a_group_is_limited_by_the_size_of_every_kind_of_job() {
        let long = || "x".repeat(MAX_BYTES / 2);
        let audit = || EncodedMutation::Audit(Entry { object: Some(long()), ..Entry::example("t", "request") });
        let operation = || EncodedMutation::Operation(Statement::new(sql::TENANTS, values![long()]));
        let identities = || {
            let id = CandidateId::parse("cand_01890a5dac96774bbcceb302099a8057").unwrap();
            EncodedMutation::Identities(id, vec![Identity::ExternalId("x".into()); MAX_BYTES / 1024])
        };
        let kinds: [(&str, &dyn Fn() -> EncodedMutation); 3] =
            [("audit", &audit), ("operation", &operation), ("identities", &identities)];
        for (kind, make) in kinds {
            let (_channel, mut queue) = queue((0..16).map(|_| Job::Commit(vec![make()])));
            let chosen = queue.choose();
            assert!(chosen.group.len() <= 8, "{kind}: {} jobs", chosen.group.len());
        }
    }
}
