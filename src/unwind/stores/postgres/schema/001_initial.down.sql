-- Back to an empty database. Everything stored is lost.

drop table definitions;
drop table cursors;
drop table leases;
drop table snapshots;
drop function move_wake_ups;
drop table sagas;
drop view events;
drop function events_as_jsonb;
drop table commits;
drop function commits_are_append_only;
