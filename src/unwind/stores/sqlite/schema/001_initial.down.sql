-- Back to an empty file. Everything stored is lost.

drop table definitions;
drop table cursors;
drop table leases;
drop table snapshots;
drop table sagas;
drop view events;
drop table commits;
