-- Workers write themselves down again; figures of sagas that have ended are asked for in vain until then.
drop table workers;
drop index sagas_ended;
