-- Who may call the API. Of a key only its SHA-256 is kept; rows are never deleted but for sessions that have ended, so
-- that an installation which has had a key is never open again.
create table api_keys (
    id         text   primary key collate "C",
    name       text   not null,
    scope      text   not null check (scope in ('read', 'start', 'operate', 'admin')),
    digest     text   not null check (length(digest) = 64),
    created_at bigint not null,
    expires_at bigint,
    revoked_at bigint,
    parent     text   not null default '' collate "C"
);
