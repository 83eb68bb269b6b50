-- A ledger of schema version 1, as its own code wrote it (sqlite3 .dump).
BEGIN TRANSACTION;
CREATE TABLE active_requests (
	project VARCHAR(64) NOT NULL, 
	request INTEGER NOT NULL, 
	PRIMARY KEY (project)
);
INSERT INTO "active_requests" VALUES('zoo',2);
CREATE TABLE audit (
	id INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	event TEXT NOT NULL, 
	previous VARCHAR(64) NOT NULL, 
	hash VARCHAR(64) NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (hash)
);
INSERT INTO "audit" VALUES(1,1002.0,'{"asked_by": "sensor", "event": "request", "generation": 1, "project": "zoo", "reason": "first run of this project", "revision": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "status": "queued"}','','e1bc82c30da2602ab8558e1cc0ceeea9e08fb8a4ea0f51143ce76dac1bfa08c0');
INSERT INTO "audit" VALUES(2,1007.0,'{"event": "rebuild", "key": "key", "reason": "faulty GPU"}','e1bc82c30da2602ab8558e1cc0ceeea9e08fb8a4ea0f51143ce76dac1bfa08c0','5b2bcdc16f6616c454e4f4dced3cdbae774a4c3f3e370a6aa9a14db431abfa48');
INSERT INTO "audit" VALUES(3,1011.0,'{"event": "rollout", "project": "zoo", "release": "816f9702558913b9de0d9dd766258504278f102bd7c76c20af312356d62eaccb", "replaces": null}','5b2bcdc16f6616c454e4f4dced3cdbae774a4c3f3e370a6aa9a14db431abfa48','dbec178f23b7f5fc8a9415f5d38a139a87321e6a10fe46f10cd4c147c01d3e7e');
INSERT INTO "audit" VALUES(4,1013.0,'{"environment": "production", "event": "serves", "project": "zoo", "release": "816f9702558913b9de0d9dd766258504278f102bd7c76c20af312356d62eaccb", "revision": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}','dbec178f23b7f5fc8a9415f5d38a139a87321e6a10fe46f10cd4c147c01d3e7e','97e0c24253fe9c45d7e575bb8a9635757344ad781ce4af1b69eba225e6806d6c');
INSERT INTO "audit" VALUES(5,1015.0,'{"detail": "release promoted", "event": "closed", "request": "zoo:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:1", "status": "released"}','97e0c24253fe9c45d7e575bb8a9635757344ad781ce4af1b69eba225e6806d6c','db8eacc8714674b0517f2b097f76843f1f6b525c633359576627fd46b07851cf');
INSERT INTO "audit" VALUES(6,1017.0,'{"asked_by": "sensor", "event": "request", "generation": 1, "project": "zoo", "reason": "prompt changed", "revision": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "status": "queued"}','db8eacc8714674b0517f2b097f76843f1f6b525c633359576627fd46b07851cf','bfed26d4ea2a7f46e1171f77c14fec949aa1915aac70211c58ce87e8a8af193f');
CREATE TABLE edges (
	project VARCHAR(64) NOT NULL, 
	revision VARCHAR(64) NOT NULL, 
	stage VARCHAR(40) NOT NULL, 
	"key" VARCHAR(64) NOT NULL, 
	reused BOOLEAN NOT NULL, 
	updated FLOAT NOT NULL, 
	PRIMARY KEY (project, revision, stage)
);
INSERT INTO "edges" VALUES('zoo','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','ci_report','a80960208a7a376c13c6a4fa44a74b2eca88a1be7ed4461c5cf29eed9e4de61e',0,1005.0);
CREATE TABLE pins (
	run_id VARCHAR(64) NOT NULL, 
	project VARCHAR(64) NOT NULL, 
	revision VARCHAR(64) NOT NULL, 
	PRIMARY KEY (run_id, project)
);
INSERT INTO "pins" VALUES('run-1','zoo','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa');
CREATE TABLE rebuilds (
	"key" VARCHAR(64) NOT NULL, 
	salt TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "rebuilds" VALUES('key','faulty GPU (1006.000)');
CREATE TABLE records (
	"key" VARCHAR(64) NOT NULL, 
	stage VARCHAR(40) NOT NULL, 
	body TEXT NOT NULL, 
	created FLOAT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "records" VALUES('a80960208a7a376c13c6a4fa44a74b2eca88a1be7ed4461c5cf29eed9e4de61e','ci_report','{"stage":"ci_report","key":"a80960208a7a376c13c6a4fa44a74b2eca88a1be7ed4461c5cf29eed9e4de61e","reads":{},"made_by":{"project":"zoo","revision":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","run_id":"run-1","version":1,"seconds":1.0,"program_seconds":0.0,"at":"2026-01-01T00:00:00Z","hardware":"","libraries":{}},"checks":[{"name":"ruff","passed":true,"summary":"no problems","detail":"","severity":"error","seconds":0.0}]}',1004.0);
CREATE TABLE releases (
	digest VARCHAR(64) NOT NULL, 
	project VARCHAR(64) NOT NULL, 
	revision VARCHAR(64) NOT NULL, 
	body TEXT NOT NULL, 
	created FLOAT NOT NULL, 
	PRIMARY KEY (digest)
);
INSERT INTO "releases" VALUES('816f9702558913b9de0d9dd766258504278f102bd7c76c20af312356d62eaccb','zoo','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','{"project":"zoo","artifact_digest":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","artifact_uri":"store/a","file":"m.gguf","chat_template":"t","engine":"llama.cpp","serving":{}}',1009.0);
CREATE TABLE requests (
	id INTEGER NOT NULL, 
	project VARCHAR(64) NOT NULL, 
	revision VARCHAR(64) NOT NULL, 
	generation INTEGER NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	reason TEXT NOT NULL, 
	asked_by VARCHAR(32) NOT NULL, 
	base VARCHAR(64), 
	run_id VARCHAR(64), 
	detail TEXT NOT NULL, 
	created FLOAT NOT NULL, 
	updated FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (project, revision, generation)
);
INSERT INTO "requests" VALUES(1,'zoo','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',1,'released','first run of this project','sensor',NULL,'run-1','release promoted',1001.0,1014.0);
INSERT INTO "requests" VALUES(2,'zoo','bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb',1,'queued','prompt changed','sensor','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',NULL,'',1016.0,1016.0);
CREATE TABLE rollouts (
	id INTEGER NOT NULL, 
	project VARCHAR(64) NOT NULL, 
	release VARCHAR(64) NOT NULL, 
	revision VARCHAR(64) NOT NULL, 
	version INTEGER NOT NULL, 
	status VARCHAR(16) NOT NULL, 
	body TEXT NOT NULL, 
	updated FLOAT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "rollouts" VALUES(1,'zoo','816f9702558913b9de0d9dd766258504278f102bd7c76c20af312356d62eaccb','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',1,'running','{"release":"816f9702558913b9de0d9dd766258504278f102bd7c76c20af312356d62eaccb","replaces":null,"weights":[1.0],"step":0,"status":"running","reasons":[],"requests":0}',1010.0);
CREATE TABLE schema_version (
	version INTEGER NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "schema_version" VALUES(1);
CREATE TABLE servings (
	id INTEGER NOT NULL, 
	project VARCHAR(64) NOT NULL, 
	environment VARCHAR(16) NOT NULL, 
	release VARCHAR(64) NOT NULL, 
	revision VARCHAR(64) NOT NULL, 
	since FLOAT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "servings" VALUES(1,'zoo','production','816f9702558913b9de0d9dd766258504278f102bd7c76c20af312356d62eaccb','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',1012.0);
CREATE TABLE verdicts (
	id INTEGER NOT NULL, 
	project VARCHAR(64) NOT NULL, 
	revision VARCHAR(64) NOT NULL, 
	stage VARCHAR(40) NOT NULL, 
	passed BOOLEAN NOT NULL, 
	body TEXT NOT NULL, 
	created FLOAT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "verdicts" VALUES(1,'zoo','aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','registered_model',0,'{"subject":"it","report":"d","champion":null,"failures":["bleu 0.1"],"reasons":[]}',1008.0);
CREATE INDEX ix_requests_status ON requests (status);
CREATE INDEX ix_requests_project ON requests (project);
CREATE INDEX ix_records_stage ON records (stage);
CREATE INDEX ix_verdicts_project ON verdicts (project);
CREATE INDEX ix_releases_project ON releases (project);
CREATE INDEX ix_rollouts_project ON rollouts (project);
COMMIT;
