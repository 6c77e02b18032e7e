-- What has ended, definition by definition in the order of its end: figures over time, and the newest of each.
create index sagas_ended on sagas (definition, ended_at) where ended_at is not null;

-- Which processes carry sagas on or begin them, and how they last said they were, as JSON: each writes its row every ten
-- seconds, and takes it away when it stops in order.
create table workers (
    id      text not null primary key collate "C",
    seen_at bigint not null,
    told    text not null
);
