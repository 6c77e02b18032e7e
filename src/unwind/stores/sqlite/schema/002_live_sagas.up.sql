-- What has not ended, by the definition that it is bound to: which definitions are still needed, and by whom.
create index sagas_live on sagas (revision, started_at, id) where status not in ('completed', 'compensated');
