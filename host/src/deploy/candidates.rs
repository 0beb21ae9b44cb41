//! Candidates: what a plugin would do, before it does.
//!
//! In: requests. Out: how they compare with what is active, on old changes at once, or on new ones as they come.

use std::sync::Arc;

use tokio::runtime::Handle;
use tracing::warn;

use super::mirror::{Told, decode, needed};
use super::{DeployError, Deployer, Neighbours, Request, ShadowReport, blocking, prepared, starting};
use crate::event::{Decoder, Offset};
use crate::limits::{BATCH_BYTES_MAX, BATCH_COUNT_MAX, CHECK_COUNT_MAX, SHADOWS_COUNT_MAX};
use crate::policy::{Comparison, Plugin, Policy, Shadow};
use crate::registry::{self, Action, Note};

impl Deployer {
    /// Asks a candidate, and what is active, about the newest changes of the log, at most `count_max`, without
    /// effects. If the plugin is not active, every effect of the candidate is one that only it has.
    ///
    /// # Errors
    /// If the candidate cannot run, or there is no change.
    pub async fn check(&self, request: Request, count_max: usize) -> Result<Comparison, DeployError> {
        let Neighbours { registry, loader, log, partition, .. } = &self.0.neighbours;
        let candidate = self.candidate(&request).await?;
        let bounds = log.bounds(*partition);
        let count_max = count_max.min(CHECK_COUNT_MAX) as u64;
        let from = Offset(bounds.end.0.saturating_sub(count_max)).max(bounds.start);
        if from >= bounds.end {
            return Err(DeployError::NothingToCheck);
        }
        let set = self.set().await?;
        let mut plugins = Vec::new();
        for activation in needed(registry, &set, std::slice::from_ref(&request.plugin)).await? {
            plugins.push(prepared(registry, loader, activation).await??);
        }
        let mut policy = Policy::new(plugins)?;
        policy.compare(Shadow::new(candidate));
        let (log, partition, runtime) = (log.clone(), *partition, Handle::current());
        let compare = move || {
            let (mut from, mut decoder) = (from, Decoder::default());
            while from < bounds.end {
                let count = usize::try_from(bounds.end.0 - from.0).unwrap_or(usize::MAX).min(BATCH_COUNT_MAX);
                let records = runtime.block_on(log.read(partition, from, count, BATCH_BYTES_MAX))?;
                policy.evaluate(&mut decode(&mut decoder, &records)?);
                from = from.plus(records.len() as u64);
            }
            Ok(policy
                .stop_comparing(&request.plugin)
                .map(|shadow| shadow.report().clone())
                .unwrap_or_default())
        };
        blocking(compare).await?
    }

    /// Lets a candidate run beside what is active, without effects, in place of the plugin's shadow if it has one.
    /// It survives restarts; its report begins anew then.
    ///
    /// # Errors
    /// If it cannot run, or too many do.
    pub async fn shadow(&self, by: &str, request: Request) -> Result<(), DeployError> {
        let _turn = self.0.turn.lock().await;
        let running = self.registry().shadows().await?;
        let is_new = running.iter().all(|shadow| shadow.candidate.plugin != request.plugin);
        if is_new && running.len() >= SHADOWS_COUNT_MAX {
            return Err(DeployError::TooManyShadows);
        }
        let candidate = self.candidate(&request).await?;
        let shadow =
            registry::Shadow { candidate: request.activation(0), by: by.to_owned(), at: registry::now() };
        let note = Note { settings: request.settings.clone(), ..about(by, Action::ShadowStarted, &request) };
        self.registry().start_shadow(shadow.clone(), note).await?;
        self.run_shadow(&shadow, candidate).await
    }

    /// Ends a shadow; gives its last report.
    ///
    /// # Errors
    /// If there is none.
    pub async fn stop_shadow(&self, by: &str, plugin: &str) -> Result<ShadowReport, DeployError> {
        let _turn = self.0.turn.lock().await;
        let report = self.shadow_report(plugin).await?;
        self.registry().stop_shadow(plugin, about(by, Action::ShadowStopped, &report.candidate)).await?;
        self.0.mirror.reports.all().remove(plugin);
        let told = self.0.mirror.orders.send(Told::Stop(plugin.into())).await;
        told.map_err(|_| DeployError::Stopping)?;
        Ok(report)
    }

    /// What a shadow has found.
    ///
    /// # Errors
    /// If there is none.
    pub async fn shadow_report(&self, plugin: &str) -> Result<ShadowReport, DeployError> {
        let mirror = &self.0.mirror;
        let report = mirror.reports.all().get(plugin).cloned();
        let mut report = report.ok_or_else(|| DeployError::NoShadow(plugin.to_owned()))?;
        report.left_out_count = mirror.beside.left_out_count().saturating_sub(report.left_out_count);
        Ok(report)
    }

    /// Lets the shadows run that did when the server ended. One that cannot stays known, and is said.
    ///
    /// # Errors
    /// If the registry cannot be read.
    pub async fn resume_shadows(&self) -> Result<(), DeployError> {
        let _turn = self.0.turn.lock().await;
        for shadow in self.registry().shadows().await? {
            let request = Request::of(&shadow.candidate);
            let resumed = match self.candidate(&request).await {
                Ok(candidate) => self.run_shadow(&shadow, candidate).await,
                Err(error) => Err(error),
            };
            if let Err(error) = resumed {
                warn!(plugin = &*request.plugin, %error, "a shadow does not run: start it anew, or stop it");
                self.0.mirror.reports.all().insert(request.plugin.clone(), self.report(&shadow));
            }
        }
        Ok(())
    }

    /// As it would be activated next.
    async fn candidate(&self, request: &Request) -> Result<Plugin, DeployError> {
        let Neighbours { registry, loader, .. } = &self.0.neighbours;
        request.check()?;
        if registry.component(request.digest).await?.is_none() {
            return Err(DeployError::UnknownComponent(request.digest));
        }
        let generation = starting::next_number(registry, &request.plugin).await?;
        Ok(prepared(registry, loader, request.activation(generation)).await??)
    }

    async fn run_shadow(&self, shadow: &registry::Shadow, candidate: Plugin) -> Result<(), DeployError> {
        let plugin: Arc<str> = shadow.candidate.plugin.clone();
        self.0.mirror.reports.all().insert(plugin, self.report(shadow));
        let told = self.0.mirror.orders.send(Told::Start(Box::new(Shadow::new(candidate)))).await;
        told.map_err(|_| DeployError::Stopping)
    }

    /// As it begins. What was left out before is subtracted later.
    fn report(&self, shadow: &registry::Shadow) -> ShadowReport {
        ShadowReport {
            candidate: Request::of(&shadow.candidate),
            by: shadow.by.clone(),
            since: registry::now(),
            left_out_count: self.0.mirror.beside.left_out_count(),
            comparison: Comparison::default(),
        }
    }
}

fn about(by: &str, action: Action, request: &Request) -> Note {
    let mut note = Note::new(by, action);
    note.plugin = Some(request.plugin.to_string());
    note.digest = Some(request.digest);
    note
}
