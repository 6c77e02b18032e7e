-- Nobody has a key any more: the API answers callers on this machine only.

drop table api_keys;
