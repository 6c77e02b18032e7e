-- Sagas can be found by their attributes no more. The log keeps these, in each saga's first event.

drop table attributes;
