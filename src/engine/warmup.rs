//! Preparing ahead of a request, and other work that is no job, with its progress.

use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};

use super::Engine;
use super::queue::Rank;
use super::turns::LOOK;
use crate::error::{Error, Result};
use crate::generate;
use crate::host::{Host, Progress};
use crate::request::Request;
use crate::rewards::Reward;
use crate::runtime::{Cancel, exit};
use crate::sessions::Sessions;
use crate::shortage;
use crate::tensor::Tensor;
use crate::tteo::Optimize;

/// What the worker says to the thread that waits for it.
enum News<T> {
    Progress(Progress),
    Done(Result<T>),
}

/// The thread that waits, as the pipelines see it.
pub(super) struct Preparing<T> {
    cancel: Arc<Cancel>,
    news: Mutex<Sender<News<T>>>,
    /// There is a result, which is handed over whatever happens.
    holds: Arc<AtomicBool>,
}

impl<T> Preparing<T> {
    fn tell(&self, news: News<T>) {
        // Nobody may wait any more.
        let _ = self.news.lock().unwrap_or_else(|e| e.into_inner()).send(news);
    }
}

impl<T> Host for Preparing<T> {
    fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    fn advance(&self, progress: Progress) {
        self.tell(News::Progress(progress));
    }

    fn give_way(&self, _: &mut Sessions) -> Result<()> {
        Ok(())
    }

    fn holds_best(&self) {
        self.holds.store(true, SeqCst);
    }

    fn ask(&self, _: &Arc<Reward>, _: Tensor) -> Result<Option<(Tensor, Tensor)>> {
        Err(Error::internal("nothing is computed that a callback could judge"))
    }

    fn is_abandoned(&self) -> bool {
        exit::closing()
    }
}

impl Engine {
    /// Prepare everything that this request needs, of the student or the teacher, of an optimisation, of its prompts, so
    /// that the first job like it is as fast as the next. Jobs are alike that differ in their seed and labels, in numbers
    /// of sampling and optimising, and in what their rewards are given: targets, colours, weights, classes. `progress` is called on
    /// this thread after each session, and 20 times a second without news; `Break` ends the preparation. Waits for the
    /// jobs before it.
    ///
    /// # Errors
    /// Those of [`Engine::submit`]; [`Error::Cancelled`] after `Break`; [`Error::OutOfMemory`] where the sessions would
    /// exceed the memory limit; that ONNX Runtime or the provider refuses a graph.
    pub fn warmup_request(
        &self,
        request: &Request,
        progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<()> {
        self.prepare_for(Some(request), progress)
    }

    /// [`Engine::warmup_request`]; without a request [`Engine::warmup`] for one picture.
    pub(super) fn prepare_for(
        &self,
        request: Option<&Request>,
        progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<()> {
        self.check()?;
        let resolved = request.map(|request| request.resolve(self.model())).transpose()?;
        let files = request.iter().flat_map(|r| &r.optimize).flat_map(Optimize::files);
        files.for_each(|file| file.kept_by(self.worker.state()));
        let work = move |sessions: &mut Sessions, host: &Preparing<()>| {
            let mut told = |step, total| host.advance(Progress { step, total });
            let done = match &resolved {
                Some(resolved) => generate::prepare_request(sessions, host, resolved),
                None => generate::prepare(sessions, 1, &host.cancel, &mut told),
            };
            let mut climbs = resolved.iter().flat_map(|r| &r.optimize);
            let intact = sessions.model().mapping().recheck();
            let intact = intact.and_then(|()| climbs.try_for_each(Optimize::recheck));
            intact.and(shortage::checked("the sessions of a request", done))
        };
        self.wait_for(work, progress)
    }

    /// Have the worker do something in its turn, and wait. `progress` is called on this thread after each step, and 20 times a
    /// second without news; `Break` cancels the work.
    pub(super) fn wait_for<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Sessions, &Preparing<T>) -> Result<T> + Send + 'static,
        mut progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<T> {
        let turns = self.worker.turns();
        let check_turn = || turns.check("waiting for the engine", None);
        let _queued = turns.queue();
        check_turn()?;
        let (news, received) = channel();
        let (cancel, panicked) = (Arc::<Cancel>::default(), news.clone());
        let holds = Arc::<AtomicBool>::default();
        let host = Preparing { cancel: cancel.clone(), news: Mutex::new(news), holds: holds.clone() };
        let work = move |sessions: &mut Sessions| {
            let done = work(sessions, &host);
            host.tell(News::Done(done));
        };
        self.worker.enqueue(Rank::default(), work, move |e| drop(panicked.send(News::Done(Err(e)))))?;
        let mut last = Progress::default();
        loop {
            match received.recv_timeout(LOOK) {
                Ok(News::Progress(news)) => last = news,
                Ok(News::Done(done)) => return done,
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(e) = check_turn() {
                        // The worker may have answered meanwhile, and gone on to a job that asks.
                        cancel.cancel();
                        let mut news = received.try_iter();
                        let done =
                            news.find_map(|news| if let News::Done(done) = news { Some(done) } else { None });
                        return done.unwrap_or(Err(e));
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::internal("the worker thread is gone"));
                }
            }
            if progress(last).is_break() {
                // The worker finds out by itself, now or when its turn comes.
                cancel.cancel();
                if !holds.load(SeqCst) {
                    return Err(Error::Cancelled);
                }
            }
        }
    }
}
